//! `updateStrategy.onDelete: Restore`: a finalizer keeps a deleted policy until what it changed is put back.
//!
//! Invariants: the finalizer is there before the policy's first change; a policy that is being deleted changes nothing but
//! for putting back; and it goes in the end: what cannot be put back is told and left.

use super::Controller;
use super::brake;
use super::cluster::{Cluster, PolicyObject};
use super::errors::WriteError;
use super::report::{not_restored, restored};
use super::select::Selection;
use super::undo::{Undo, UndoError};
use crate::decide::Reason;
use crate::policy::{Mode, OnDelete, Policy, PolicyId};
use crate::workload::WorkloadId;
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// So many workloads are looked at before other policies have their turn.
const AT_ONCE: usize = 50;
/// Until the next look at a policy that has more to put back.
const SOON: Duration = Duration::from_secs(1);
/// Until the next look at one that waits or failed.
const LATER: Duration = Duration::from_secs(10);
/// What has failed so often, and so long after the deletion, is left.
const TRIES: u32 = 3;
const PATIENCE: SignedDuration = SignedDuration::from_mins(10);

const UNDER_DRY_RUN: &str = "the policy is deleted; it waits for a controller that may put back what was changed (onDelete: \
    Restore), which a dry run may not: run one without, as the chart's mode full does, or take away the finalizer \
    optipod.io/restore to let the changes stay";

/// What came of the workloads of a policy that is being deleted.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    done: BTreeSet<WorkloadId>,
    failed: BTreeMap<WorkloadId, u32>,
    left: BTreeSet<WorkloadId>,
}

impl Leaving {
    fn is_open(&self, id: &WorkloadId) -> bool {
        !self.done.contains(id) && !self.left.contains(id)
    }
}

/// Why a workload is not put back yet.
enum Wait {
    /// For this brake.
    Brake(String),
    /// For the rate of changes.
    Turn,
}

impl Controller {
    /// Sets the finalizer where the policy asks for it and may change something, and takes it away where it asks no longer.
    ///
    /// # Errors
    /// Why nothing may be changed: what could not be put back later.
    pub(super) async fn keep_promise(&self, object: &PolicyObject, policy: &Policy) -> Result<(), Reason> {
        let restores = policy.update.on_delete == OnDelete::Restore;
        let is_wanted = restores && (object.kept || policy.mode == Mode::Auto);
        if object.kept == is_wanted || self.options.dry_run {
            return Ok(());
        }
        match self.executor.writer.finalizer(&object.id, &object.uid, is_wanted).await {
            Err(error) if is_wanted && error != WriteError::Gone => {
                let detail = format!("the finalizer that onDelete: Restore needs could not be set: {error}");
                Err(Reason::WriteFailed { detail })
            }
            // One that is not taken away now is in the next cycle.
            _ => Ok(()),
        }
    }

    /// Puts back what a deleted policy changed, as far as brakes and the rate of changes allow, and then lets it go. When
    /// to look again.
    pub(super) async fn let_go(&mut self, object: &PolicyObject) -> Duration {
        if !object.kept {
            return LATER;
        }
        if self.options.dry_run {
            self.report_leaving(&object.id, object.generation, UNDER_DRY_RUN).await;
            return LATER;
        }
        let mut leaving = self.policies.entry(object.id.clone()).or_default().leaving.take().unwrap_or_default();
        let open: Vec<WorkloadId> = self.changed_by(object).into_iter().filter(|id| leaving.is_open(id)).collect();
        let (mut held, mut waits) = (None, open.len() > AT_ONCE);
        for id in open.iter().take(AT_ONCE) {
            match self.undo(object, id, &mut leaving).await {
                Ok(()) => {}
                Err(Wait::Brake(why)) => held = held.or(Some(why)),
                Err(Wait::Turn) => {
                    waits = true;
                    break;
                }
            }
        }
        let pending = open.iter().filter(|id| leaving.is_open(id)).count();
        let message = told(&leaving, pending, held.as_deref());
        if pending == 0 && self.released(object, &leaving).await {
            return LATER;
        }
        self.policies.entry(object.id.clone()).or_default().leaving = Some(leaving);
        self.report_leaving(&object.id, object.generation, &message).await;
        if waits { SOON } else { LATER }
    }

    async fn undo(&mut self, object: &PolicyObject, id: &WorkloadId, leaving: &mut Leaving) -> Result<(), Wait> {
        if let Some(reason) = self.shared.with(|cluster| brake::hold(cluster, id)) {
            return Err(Wait::Brake(reason.to_string()));
        }
        if self.rate.available() == 0 {
            return Err(Wait::Turn);
        }
        match Undo::of_deletion(self.executor.writer.clone()).workload(id, false).await {
            Ok(undone) => {
                if !undone.restored.is_empty() {
                    self.rate.take(1);
                    tracing::info!(policy = %object.id, workload = %id, ?undone, "put back, for the policy is deleted");
                    if let Some(workload) = self.shared.with(|cluster| cluster.workload(id).cloned()) {
                        self.events.publish(restored(&workload, &object.id));
                    }
                }
                self.history.forget(id);
                leaving.done.insert(id.clone());
            }
            Err(UndoError::Absent(_)) => {
                leaving.done.insert(id.clone());
            }
            Err(UndoError::Withheld(why)) => return Err(Wait::Brake(why)),
            Err(error) => self.note_failure(object, id, leaving, &error),
        }
        Ok(())
    }

    fn note_failure(&self, object: &PolicyObject, id: &WorkloadId, leaving: &mut Leaving, error: &UndoError) {
        let tries = leaving.failed.entry(id.clone()).or_default();
        *tries += 1;
        let (tries, since) = (*tries, object.deleting.unwrap_or(Timestamp::UNIX_EPOCH));
        tracing::warn!(policy = %object.id, workload = %id, %error, tries, "not put back");
        self.metrics.policy(&object.id).count_error("RestoreFailed");
        if tries >= TRIES && self.clock.now().duration_since(since) >= PATIENCE {
            leaving.left.insert(id.clone());
            if let Some(workload) = self.shared.with(|cluster| cluster.workload(id).cloned()) {
                self.events.publish(not_restored(&workload, &object.id, error));
            }
        }
    }

    /// The finalizer is gone, and with it the policy.
    async fn released(&mut self, object: &PolicyObject, leaving: &Leaving) -> bool {
        match self.executor.writer.finalizer(&object.id, &object.uid, false).await {
            Ok(()) | Err(WriteError::Gone) => {
                let (done, left) = (leaving.done.len(), leaving.left.len());
                tracing::info!(policy = %object.id, done, left, "let go");
                true
            }
            Err(error) => {
                tracing::warn!(policy = %object.id, %error, "the finalizer could not be taken away; it is tried again");
                false
            }
        }
    }

    /// The workloads that the policy acts on and that OptiPod has changed; none where Disabled stops every write.
    fn changed_by(&mut self, object: &PolicyObject) -> BTreeSet<WorkloadId> {
        if object.parsed.as_ref().is_ok_and(|policy| policy.mode == Mode::Disabled) {
            return BTreeSet::new();
        }
        self.refresh_selection();
        let Self { shared, selection, history, policies, .. } = self;
        let listed = policies.get(&object.id).into_iter().flat_map(|state| state.entries.iter());
        let listed = listed.filter(|(_, entry)| entry.status.reason.as_deref() != Some("OverriddenBy"));
        let listed: Vec<&WorkloadId> = listed.map(|(id, _)| id).collect();
        shared.with(|cluster| {
            let mut ids = acted_on(selection, &object.id, &listed);
            ids.retain(|id| {
                is_changed(cluster, id, history.get(id).is_some_and(|memory| memory.last_change.is_some()))
            });
            ids
        })
    }
}

/// What the policy covers, and what its status lists, without what another policy acts on.
fn acted_on(selection: &Selection, policy: &PolicyId, listed: &[&WorkloadId]) -> BTreeSet<WorkloadId> {
    let acting = selection.acting();
    let covered = acting.iter().filter(|(_, by)| **by == policy).map(|(id, _)| (*id).clone());
    let listed = listed.iter().filter(|id| !acting.contains_key(*id)).map(|id| (*id).clone());
    covered.chain(listed).collect()
}

fn is_changed(cluster: &Cluster, id: &WorkloadId, is_remembered: bool) -> bool {
    cluster.workload(id).is_some_and(|w| !w.deleting && (is_remembered || w.applied_at.is_some()))
}

fn told(leaving: &Leaving, pending: usize, held: Option<&str>) -> String {
    let done = leaving.done.len();
    let left = match leaving.left.len() {
        0 => String::new(),
        left => format!(", {left} could not be put back; see their events"),
    };
    let held = held.map(|held| format!("; it waits: {held}")).unwrap_or_default();
    format!(
        "the policy is deleted; OptiPod puts back what it changed (onDelete: Restore): {done} workloads are done, {pending} to go{left}{held}"
    )
}
