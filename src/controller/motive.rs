//! Why a change is made, and the change that takes another one back. Pure.
//!
//! Invariant: a rollback that has begun is carried on as the same change: it is announced and counted once.

use super::history::{Memory, Method};
use super::observe::Observed;
use super::plan::{Change, writes};
use crate::decide::{Aftermath, Cause, Circuit, Facts, Harm, Restore, Rollback, Watch};
use jiff::Timestamp;

/// Why a change is made.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Motive {
    /// The recommendation; what is wrong with the workload as it begins is not its fault.
    Recommendation(Watch),
    /// The change before did harm.
    Harm(Harm),
    /// A change for this cause has begun and is not complete.
    Begun(Cause),
}

impl Motive {
    pub(super) fn cause(&self) -> Cause {
        match self {
            Self::Recommendation(_) => Cause::Recommend,
            Self::Harm(_) => Cause::Rollback,
            Self::Begun(cause) => *cause,
        }
    }
}

/// What is remembered of the last change, for the decision.
pub(super) fn aftermath(observed: &Observed, memory: &Memory, circuit: Option<Circuit>) -> Aftermath {
    Aftermath {
        cause: memory.cause,
        by_rollout: memory.method == Some(Method::Rollout),
        previous: memory.previous.clone(),
        watch: memory.watch.clone(),
        rolled_back: memory.rolled_back.clone(),
        circuit,
        progress: observed.workload.progress.clone(),
    }
}

/// Its status comes first, once; it takes from no budget.
pub(super) fn roll_back(
    facts: &Facts<'_>,
    observed: &Observed,
    memory: &Memory,
    rollback: Rollback,
    now: Timestamp,
) -> Change {
    let Rollback { harm, failed, target, restore } = rollback;
    let is_new = memory.cause != Some(Cause::Rollback);
    let method = match restore {
        Restore::Pods(_) => Method::Resize,
        Restore::Template(_) => Method::Rollout,
    };
    let motive = if is_new { Motive::Harm(harm) } else { Motive::Begun(Cause::Rollback) };
    let writes = writes(facts, observed, &target, restore, Cause::Rollback, now);
    Change { method, motive, target, previous: failed, is_new, writes, remaining: 0 }
}
