//! Numbers of series that were asked for before the sled part was read, which alone knows all that
//! were given out.
//!
//! Invariant: such a number stands for its key for good; once the store is loaded, it means the
//! number that the series table gives that key.

use crate::table::SeriesTable;
use crate::{SeriesId, SeriesKey};

/// Early numbers count from here, beyond all of the series table.
const FIRST: u32 = 1 << 31;

/// What was asked for early.
#[derive(Debug, Default)]
pub(super) struct Early {
    asked: SeriesTable,
    /// What each early number means, once the store is loaded.
    numbers: Option<Vec<SeriesId>>,
}

impl Early {
    /// An early number; `None` once the store is loaded.
    pub(super) fn intern(&mut self, key: &SeriesKey) -> Option<SeriesId> {
        match self.numbers {
            None => Some(SeriesId(FIRST.saturating_add(self.asked.intern(key).0))),
            Some(_) => None,
        }
    }

    /// From now on early numbers mean those of `table`.
    pub(super) fn end(&mut self, table: &mut SeriesTable) {
        let asked = std::mem::take(&mut self.asked);
        self.numbers = Some(asked.keys().map(|key| table.intern(&key)).collect());
    }

    /// What a number means.
    pub(super) fn number(&self, series: SeriesId) -> SeriesId {
        let index = series.0.checked_sub(FIRST).map(|index| index as usize);
        let Some(index) = index else { return series };
        self.numbers.as_ref().and_then(|numbers| numbers.get(index)).copied().unwrap_or(series)
    }
}
