//! Which sealed slots there are, and what should become of them.
//!
//! Deciding is pure: it looks at names and times only. May not know: sled. Invariant: no two files
//! hold the same samples.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::Timestamp;
use crate::slot::{Slot, SlotKind};
use crate::slot_file::SlotFile;

/// 5-minute slots stay this long after the end of their hour.
pub(crate) const HOUR_AFTER: std::time::Duration = std::time::Duration::from_hours(2);
/// Hours stay this long after the end of their day.
const DAY_AFTER: std::time::Duration = std::time::Duration::from_hours(8 * 24);

/// All sealed slots.
#[derive(Clone, Debug, Default)]
pub(crate) struct Catalog {
    files: BTreeMap<Slot, Arc<SlotFile>>,
    generation: u64,
}

/// What to merge next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct RollUpChoice {
    pub(crate) target: Slot,
    pub(crate) inputs: Vec<Slot>,
}

impl Catalog {
    pub(crate) fn of(files: Vec<SlotFile>) -> Self {
        let files = files.into_iter().map(|file| (file.slot(), Arc::new(file))).collect();
        Self { files, generation: 0 }
    }

    pub(crate) fn files(&self) -> impl Iterator<Item = &Arc<SlotFile>> {
        self.files.values()
    }

    pub(crate) fn slots(&self) -> impl Iterator<Item = Slot> + Clone {
        self.files.keys().copied()
    }

    pub(crate) fn contains(&self, slot: Slot) -> bool {
        self.files.contains_key(&slot)
    }

    pub(crate) fn get(&self, slot: Slot) -> Option<&Arc<SlotFile>> {
        self.files.get(&slot)
    }

    /// Grows with every change, so that answers made from an older state are recognised.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// The catalog after adding and removing files.
    pub(crate) fn changed(&self, add: Option<Arc<SlotFile>>, remove: &[Slot]) -> Self {
        let mut files = self.files.clone();
        for slot in remove {
            files.remove(slot);
        }
        files.extend(add.map(|file| (file.slot(), file)));
        let generation = self.generation + 1;
        Self { files, generation }
    }

    /// Whether a slot, or a longer one around it, is sealed.
    pub(crate) fn covers(&self, slot: Slot) -> bool {
        let kinds = SlotKind::ALL.into_iter().filter(|kind| *kind >= slot.kind);
        kinds.into_iter().any(|kind| self.contains(slot.within(kind)))
    }

    /// Whether a slot, a longer one around it or a shorter one within it is sealed.
    pub(crate) fn overlaps(&self, slot: Slot) -> bool {
        self.covers(slot) || self.slots().any(|other| other.kind < slot.kind && other.within(slot.kind) == slot)
    }

    /// Files of slots that end after `from` and start at or before `to`, by time.
    pub(crate) fn overlapping(&self, from: Timestamp, to: Timestamp) -> Vec<Arc<SlotFile>> {
        let mut found = Vec::new();
        for kind in SlotKind::ALL {
            let lower = kind.slot_at(from);
            let upper = Slot { kind, start: to };
            if lower <= upper {
                let range = self.files.range(lower..=upper);
                found.extend(range.filter(|(s, _)| s.end() > from).map(|(_, file)| file.clone()));
            }
        }
        found.sort_by_key(|file| file.slot().start);
        found
    }

    /// Slots within a sealed longer slot: what a crash between writing a roll-up and removing its
    /// inputs leaves.
    pub(crate) fn superseded(&self) -> Vec<Slot> {
        let within_longer = |slot: &Slot| {
            let mut longer = SlotKind::ALL.into_iter().filter(|kind| *kind > slot.kind);
            longer.any(|kind| self.contains(slot.within(kind)))
        };
        self.slots().filter(within_longer).collect()
    }

    /// Files of shorter slots within a slot.
    pub(crate) fn within(&self, slot: Slot) -> Vec<Arc<SlotFile>> {
        let is_within = |file: &&Arc<SlotFile>| file.slot().kind < slot.kind && file.slot().within(slot.kind) == slot;
        self.files().filter(is_within).cloned().collect()
    }

    /// Files of longer slots that superseded ones lie in.
    pub(crate) fn superseding(&self) -> Vec<Arc<SlotFile>> {
        let around =
            |slot: Slot| SlotKind::ALL.into_iter().filter(move |kind| *kind > slot.kind).map(move |k| slot.within(k));
        let around: BTreeSet<Slot> = self.superseded().into_iter().flat_map(around).collect();
        around.iter().filter_map(|slot| self.files.get(slot).cloned()).collect()
    }

    /// Slots that the retention no longer covers.
    pub(crate) fn expired(&self, oldest: Timestamp) -> Vec<Slot> {
        self.slots().filter(|slot| slot.end() <= oldest).collect()
    }

    /// The oldest roll-up that is due: hours before days, and none while a slot within it may
    /// still be sealed. Only of hours and days that begin at `from` or later.
    pub(crate) fn choose_roll_up(
        &self,
        open: &BTreeSet<Timestamp>,
        from: Timestamp,
        now: Timestamp,
    ) -> Option<RollUpChoice> {
        self.choose(SlotKind::FiveMinutes, SlotKind::Hour, (from, now - HOUR_AFTER), open)
            .or_else(|| self.choose(SlotKind::Hour, SlotKind::Day, (from, now - DAY_AFTER), open))
    }

    fn choose(
        &self,
        from: SlotKind,
        to: SlotKind,
        (from_start, ended_by): (Timestamp, Timestamp),
        open: &BTreeSet<Timestamp>,
    ) -> Option<RollUpChoice> {
        let within = |slot: Slot, target: Slot| slot.within(to) == target;
        let is_settled = |target: &Slot| {
            let five_minutes = open.iter().map(|start| SlotKind::FiveMinutes.slot_at(*start));
            let shorter = self.slots().filter(|slot| slot.kind < from);
            !five_minutes.chain(shorter).any(|slot| within(slot, *target))
        };
        let inputs = self.slots().filter(|slot| slot.kind == from);
        let due = inputs.clone().map(|slot| slot.within(to)).filter(|t| t.start >= from_start && t.end() <= ended_by);
        let target = due.into_iter().find(is_settled)?;
        let inputs = inputs.filter(|slot| within(*slot, target)).collect();
        Some(RollUpChoice { target, inputs })
    }
}
