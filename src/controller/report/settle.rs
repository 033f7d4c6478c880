//! What an applied change means for what is remembered of the workload.

use super::{Before, Controller};
use crate::controller::apply::{Applied, Outcome};
use crate::controller::errors::WriteError;
use crate::controller::history::{Method, reason_of};
use crate::controller::plan::{Change, Verdict};
use crate::controller::rights::Right;
use crate::hash::fnv_1a;
use jiff::Timestamp;
use std::time::Duration;

impl Controller {
    /// A refused change is forgotten as if it had not begun; one whose answer was lost counts as made.
    pub(super) fn settle(&mut self, applied: &Applied, before: &Before, now: Timestamp) {
        let workload = &applied.planned.workload;
        let Verdict::Change(change) = &applied.planned.verdict else { return };
        match &applied.outcome {
            Outcome::Done => {
                let memory = self.history.entry(&workload.id);
                memory.failure = None;
                memory.last_change = Some(now);
                memory.method = Some(change.method);
            }
            Outcome::Held { done: 0, .. } => self.forget_change(applied, before),
            Outcome::Nothing => {}
            Outcome::Held { .. } => self.history.entry(&workload.id).last_change = Some(now),
            Outcome::Failed { error, done } => self.failed(applied, change, error, *done, before, now),
        }
    }

    /// What was judged of the change before. A change that begins has a watch of its own.
    pub(super) fn heed(&mut self, applied: &Applied) {
        let planned = &applied.planned;
        let begins = matches!(&planned.verdict, Verdict::Change(change) if change.is_new);
        let Some(memory) = self.history.get(&planned.workload.id) else { return };
        if !begins && memory.watch != planned.watch {
            self.history.entry(&planned.workload.id).watch.clone_from(&planned.watch);
        }
    }

    /// Nothing was written: what was remembered before the change is true again.
    fn forget_change(&mut self, applied: &Applied, before: &Before) {
        let id = &applied.planned.workload.id;
        if let Some(memory) = before.get(id) {
            *self.history.entry(id) = memory.clone();
        }
    }

    fn failed(
        &mut self,
        applied: &Applied,
        change: &Change,
        error: &WriteError,
        done: usize,
        before: &Before,
        now: Timestamp,
    ) {
        let id = &applied.planned.workload.id;
        let nothing_happened = done == 0 && !error.may_have_happened();
        if nothing_happened {
            self.forget_change(applied, before);
        } else {
            // Also a later write of a change that had begun: the cooldown counts from it.
            self.history.entry(id).last_change = Some(now);
        }
        if let WriteError::Forbidden(_) = error {
            let right = match change.method {
                Method::Resize => Right::Resize,
                Method::Rollout => Right::Rollout(id.kind),
            };
            self.rights.refused(right, &id.namespace);
        }
        match error {
            // These are answered by looking again, not by waiting.
            WriteError::Stale
            | WriteError::Gone
            | WriteError::NotLeader
            | WriteError::PolicyChanged
            | WriteError::Stopping => {}
            error => {
                let wait = if let WriteError::Throttled { wait, .. } = error { *wait } else { Duration::ZERO };
                let reason = reason_of(error, change.method);
                let scatter = fnv_1a(id.to_string().into_bytes());
                self.history.entry(id).fail(&change.target, reason, wait, now, scatter);
            }
        }
    }
}
