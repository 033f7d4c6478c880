//! Slots: the fixed, aligned spans of time that samples are counted in.
//!
//! May not know: what is in a slot. Invariant: a slot of one kind lies wholly within one slot of
//! the next.

use std::time::Duration;

use crate::Timestamp;
use crate::time::millis;

/// How long a 5-minute slot takes samples after its end, and how far ahead of the clock a sample
/// may be.
pub(crate) const LATENESS: Duration = Duration::from_mins(2);

/// The length of a slot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum SlotKind {
    /// Five minutes: where samples land.
    FiveMinutes,
    /// One hour, merged from 5-minute slots when they are two hours old.
    Hour,
    /// One day (UTC), merged from hours when they are eight days old.
    Day,
}

impl SlotKind {
    /// Shortest first.
    pub const ALL: [Self; 3] = [Self::FiveMinutes, Self::Hour, Self::Day];

    /// How long a slot of this kind is.
    pub const fn length(self) -> Duration {
        match self {
            Self::FiveMinutes => Duration::from_mins(5),
            Self::Hour => Duration::from_hours(1),
            Self::Day => Duration::from_hours(24),
        }
    }

    /// The slot of this kind that contains `at`.
    pub(crate) fn slot_at(self, at: Timestamp) -> Slot {
        let length = millis(self.length());
        let start = at.0.div_euclid(length).saturating_mul(length);
        Slot { kind: self, start: Timestamp(start) }
    }
}

/// One slot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Slot {
    pub(crate) kind: SlotKind,
    pub(crate) start: Timestamp,
}

impl Slot {
    /// The first instant after the slot.
    pub(crate) fn end(self) -> Timestamp {
        self.start + self.kind.length()
    }

    /// The slot of a longer (or the same) kind around this one.
    pub(crate) fn within(self, kind: SlotKind) -> Self {
        kind.slot_at(self.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_aligned_also_before_the_epoch() {
        let slot = SlotKind::FiveMinutes.slot_at(Timestamp(-1));
        assert_eq!(slot.start, Timestamp(-300_000));
        assert_eq!(slot.end(), Timestamp(0));
        assert_eq!(slot.within(SlotKind::Day).start, Timestamp(-86_400_000));
    }

    #[test]
    fn extreme_times_do_not_overflow() {
        for at in [Timestamp(i64::MIN), Timestamp(i64::MAX)] {
            for kind in SlotKind::ALL {
                let slot = kind.slot_at(at);
                assert!(slot.start <= slot.end());
            }
        }
    }
}
