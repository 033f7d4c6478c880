//! The handle that tests inject faults with.
//!
//! What it may not know: what the faults do.
//! Invariant: a rule is in force from the moment it is added, for requests that arrive later.

use super::SimApi;
use super::faults::{FaultId, FaultRule};

/// Adds and removes faults.
#[derive(Clone, Debug)]
pub struct FaultControl(pub(crate) SimApi);

impl FaultControl {
    /// Puts a rule in force.
    pub fn add(&self, rule: FaultRule) -> FaultId {
        self.0.lock().faults.add(rule)
    }

    /// Ends a rule.
    pub fn remove(&self, id: FaultId) {
        self.0.lock().faults.remove(id);
    }

    /// Ends all rules.
    pub fn clear(&self) {
        self.0.lock().faults.clear();
    }

    /// How often a rule has struck.
    pub fn struck(&self, id: FaultId) -> u64 {
        self.0.lock().faults.struck(id)
    }

    /// Ends all watches that are open now; clients see a clean end of the stream.
    pub fn cut_watches(&self) {
        let mut state = self.0.lock();
        state.cut_epoch += 1;
        // Wakes the watches without a change.
        state.store.wake();
    }

    /// Forgets the history: a watch that resumes from before now gets 410.
    pub fn expire_history(&self) {
        self.0.lock().store.expire_history();
    }
}
