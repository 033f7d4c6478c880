//! Holding back the regular roll-ups while the past comes in.
//!
//! An hour or day that is rolled up takes no more slots: what an import has of it so far would be all of it.

use super::Store;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// While it lives, [`Store::maintain`] rolls nothing up; everything else goes on. An import rolls up what it is done with.
#[derive(Debug)]
#[must_use = "roll-ups go on when this is dropped"]
pub struct RollUpsHeld(Arc<AtomicUsize>);

impl Store {
    /// Holds back the regular roll-ups: for an import that is made in several parts, from before the first tick if a part
    /// of an earlier one may be in.
    pub fn hold_roll_ups(&self) -> RollUpsHeld {
        self.holds.fetch_add(1, Ordering::SeqCst);
        RollUpsHeld(self.holds.clone())
    }

    pub(super) fn are_roll_ups_held(&self) -> bool {
        self.holds.load(Ordering::SeqCst) > 0
    }
}

impl Drop for RollUpsHeld {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
