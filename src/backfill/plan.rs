//! How far a backfill has come, and what it asks for next. A file in the store's folder tells it across restarts.

use super::BackfillError;
use crate::clock::earlier;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The file's name.
const FILE: &str = "backfill.json";

/// Seconds of an hour and of a day.
const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

/// The time that is filled, in Unix seconds. It is filled from its end, so that short windows can be answered first.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Plan {
    /// Where it begins: on the hour.
    from: i64,
    /// Where it ends.
    to: i64,
    /// All from here to the end is in.
    reached: i64,
}

/// A part of the time, in Unix seconds: `from` belongs to it and `to` does not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Slice {
    pub(super) from: i64,
    pub(super) to: i64,
}

impl Plan {
    /// The `window` that ends at `now`.
    pub(super) fn new(now: Timestamp, window: Duration) -> Self {
        let from = earlier(now, window).as_second().div_euclid(HOUR) * HOUR;
        Self { from, to: now.as_second(), reached: now.as_second() }
    }

    pub(super) fn is_done(&self) -> bool {
        self.reached <= self.from
    }

    /// The latest part that is not in: at most `hours`, and never over a midnight, since days become one slot.
    pub(super) fn next(&self, hours: u32) -> Option<Slice> {
        let hours = i64::from(hours.max(1));
        let last = self.reached - 1;
        let midnight = last.div_euclid(DAY) * DAY;
        let whole = last.div_euclid(HOUR) * HOUR - (hours - 1) * HOUR;
        let from = whole.max(midnight).max(self.from);
        (!self.is_done()).then_some(Slice { from, to: self.reached })
    }

    /// The same with a part of it in.
    pub(super) fn advance(&mut self, slice: Slice) {
        self.reached = slice.from;
    }

    /// Seconds that are in, and seconds in all.
    pub(super) fn progress(&self) -> (u64, u64) {
        let seconds = |from: i64| u64::try_from(self.to - from).unwrap_or(0);
        (seconds(self.reached), seconds(self.from))
    }

    /// The plan that the store in `dir` has, if any; `anew` in place of one that is damaged.
    pub(super) fn load(dir: &Path, anew: Self) -> Result<Option<Self>, BackfillError> {
        let path = dir.join(FILE);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                tracing::warn!(path = %path.display(), %error, "damaged; the backfill begins anew and keeps what is in");
                anew
            }))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(cause) => Err(BackfillError::Plan { path, cause }),
        }
    }

    /// Makes it durable.
    pub(super) fn save(&self, dir: &Path) -> Result<(), BackfillError> {
        let path = dir.join(FILE);
        self.write(dir, &path).map_err(|cause| BackfillError::Plan { path, cause })
    }

    fn write(&self, dir: &Path, path: &PathBuf) -> io::Result<()> {
        let temporary = dir.join(format!("{FILE}.tmp"));
        let mut file = File::create(&temporary)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(dir)?.sync_all()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)] // a test that panics has failed
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_plan_outlives_the_process_and_a_damaged_one_begins_anew() {
        let dir = tempfile::tempdir().unwrap();
        let mut plan = Plan::new("2026-11-24T10:20:30Z".parse().unwrap(), Duration::from_hours(30));
        let anew = plan.clone();
        assert_eq!(Plan::load(dir.path(), anew.clone()).unwrap(), None);
        plan.advance(plan.next(24).unwrap());
        plan.save(dir.path()).unwrap();
        assert_eq!(Plan::load(dir.path(), anew.clone()).unwrap(), Some(plan));
        fs::write(dir.path().join(FILE), "{").unwrap();
        assert_eq!(Plan::load(dir.path(), anew.clone()).unwrap(), Some(anew));
    }

    proptest! {
        #[test]
        fn slices_are_the_whole_from_the_end_and_none_crosses_midnight(
            now in 1_700_000_000i64..1_800_000_000, hours in 1u64..1000, each in 1u32..30
        ) {
            let mut plan = Plan::new(Timestamp::from_second(now).unwrap(), Duration::from_hours(hours));
            let mut reached = now;
            while let Some(slice) = plan.next(each) {
                prop_assert_eq!(slice.to, reached);
                prop_assert!(slice.from < slice.to && slice.to - slice.from <= i64::from(each) * HOUR);
                prop_assert_eq!((slice.from % HOUR, slice.from.div_euclid(DAY)), (0, (slice.to - 1).div_euclid(DAY)));
                plan.advance(slice);
                reached = slice.from;
            }
            let window = hours * 3600;
            let (done, all) = plan.progress();
            prop_assert!(plan.is_done() && done == all && (now - reached).unsigned_abs() == done);
            prop_assert!((window..window + 3600).contains(&done));
        }
    }
}
