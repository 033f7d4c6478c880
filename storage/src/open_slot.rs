//! The slots that still take samples: runs of rows in memory, by the series' numbers.
//!
//! May not know: files, sled. Invariant: every row lies within its slot's five minutes.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use crate::codec::value24;
use crate::entry::SlotEntry;
use crate::run::{Name, NewRow, Row, Run};
use crate::sketch::{AnySketch, SketchKind};
use crate::slot::Slot;
use crate::{SeriesId, Timestamp};

/// Open slots by their start.
/// Sealing and rewriting read a slot without holding the lock that readers share.
pub(crate) type OpenSlots = BTreeMap<Timestamp, Arc<OpenSlot>>;

/// Neighbouring series whose rows of one tick lie together. A pod that comes costs those of its span
/// a list of names.
const SPAN: u32 = 512;

/// A 5-minute slot that takes samples: runs in the order in which they came, by their span.
#[derive(Clone, Debug)]
pub(crate) struct OpenSlot {
    slot: Slot,
    spans: BTreeMap<u32, Vec<Run>>,
}

impl OpenSlot {
    pub(crate) fn slot(&self) -> Slot {
        self.slot
    }

    /// Adds a tick's rows; a slot is opened by its first row. No one but a writer, an export or a
    /// backup keeps a slot beyond a lock, so its lists are hardly ever copied here.
    pub(crate) fn add(open: &mut OpenSlots, mut rows: Vec<NewRow>) {
        let span = |new: &NewRow| new.series.0 / SPAN;
        rows.sort_by_key(|new| (new.slot.start, new.name()));
        for rows in rows.chunk_by(|a, b| a.slot == b.slot && span(a) == span(b)) {
            let [first, ..] = rows else { continue };
            let mut rest = rows.to_vec();
            while !rest.is_empty() {
                let (run, again) = first_of_each(&rest);
                let run = run_of(open, span(first), &run);
                let entry = open.entry(first.slot.start);
                let open = entry.or_insert_with(|| Arc::new(Self { slot: first.slot, spans: BTreeMap::new() }));
                Arc::make_mut(open).spans.entry(span(first)).or_default().extend(run);
                rest = again;
            }
        }
    }

    fn runs(&self, span: u32) -> &[Run] {
        self.spans.get(&span).map(Vec::as_slice).unwrap_or_default()
    }

    /// The rows of a series, those of a stream in the order in which they came.
    pub(crate) fn rows(&self, series: SeriesId) -> Vec<Row> {
        let mut found: Option<(&Arc<[Name]>, Range<usize>)> = None;
        let mut rows = Vec::new();
        for run in self.runs(series.0 / SPAN) {
            let places = match found {
                Some((names, places)) if Arc::ptr_eq(names, &run.names) => places,
                _ => run.places(series),
            };
            rows.extend(run.rows(places.clone()));
            found = Some((&run.names, places));
        }
        rows
    }

    /// All series with samples, by number.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (SeriesId, Vec<Row>)> {
        self.iter_from(SeriesId(0))
    }

    /// ... and those from a number on.
    pub(crate) fn iter_from(&self, from: SeriesId) -> impl Iterator<Item = (SeriesId, Vec<Row>)> {
        let spans = self.spans.range(from.0 / SPAN..);
        let series = spans.flat_map(|(_, runs)| series_of(runs)).filter(move |id| *id >= from);
        series.map(|id| (id, self.rows(id)))
    }

    /// The summary of one series; `None` when it has no sample here.
    pub(crate) fn entry(&self, series: SeriesId, kind: SketchKind) -> Option<SlotEntry> {
        summarise(self.slot, &self.rows(series), kind)
    }
}

/// The first row of each name, and the others.
fn first_of_each(rows: &[NewRow]) -> (Vec<NewRow>, Vec<NewRow>) {
    let names = || rows.chunk_by(|a, b| a.name() == b.name());
    let firsts = names().filter_map(<[NewRow]>::first).copied().collect();
    (firsts, names().flat_map(|of_name| of_name.iter().skip(1)).copied().collect())
}

/// With the names of the run before where it has all that are needed, else with those of all rows
/// of the span in open slots.
fn run_of(open: &OpenSlots, span: u32, rows: &[NewRow]) -> Option<Run> {
    let runs = || open.values().rev().flat_map(|slot| slot.runs(span).iter().rev());
    let alike = runs().next().and_then(|last| Run::new(&last.names, rows));
    alike.or_else(|| {
        let known = runs().flat_map(|run| run.present_names(0..run.names.len()));
        let names: BTreeSet<Name> = known.chain(rows.iter().map(NewRow::name)).collect();
        Run::new(&names.into_iter().collect(), rows)
    })
}

fn series_of(runs: &[Run]) -> BTreeSet<SeriesId> {
    runs.iter().flat_map(|run| run.present_names(0..run.names.len())).map(|name| name.series).collect()
}

/// What a sealed slot keeps of a series' rows.
pub(crate) fn summarise(slot: Slot, rows: &[Row], kind: SketchKind) -> Option<SlotEntry> {
    let sketch = |code: fn(&Row) -> u32| {
        let mut values: Vec<f64> = rows.iter().filter_map(|row| value24(code(row))).collect();
        AnySketch::from_values(kind, &mut values).ok()
    };
    Some(SlotEntry {
        first: rows.iter().map(|r| r.at(slot)).min()?,
        last: rows.iter().map(|r| r.at(slot)).max()?,
        filled: 1,
        cpu: sketch(|row| row.cpu)?,
        memory: sketch(|row| row.memory)?,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::slot::SlotKind;
    use proptest::prelude::*;

    fn slot() -> Slot {
        Slot { kind: SlotKind::FiveMinutes, start: Timestamp(-600_000) }
    }

    fn new(series: u32, millis: u32, stream: u32) -> NewRow {
        let slot = slot();
        let at = Timestamp(slot.start.0 + i64::from(millis));
        NewRow { slot, series: SeriesId(series), row: Row::new(slot, at, stream, stream % 999, millis % 99) }
    }

    proptest! {
        #[test]
        fn each_series_gets_its_rows_back_those_of_a_stream_in_their_order(
            ticks in prop::collection::vec(prop::collection::vec((0_u32..1200, 0_u32..300_000, 0_u32..5), 0..60), 0..12),
            from in 0_u32..1300,
        ) {
            let (mut open, mut expected) = (OpenSlots::new(), BTreeMap::<(SeriesId, u32), Vec<Row>>::new());
            for tick in ticks {
                let rows: Vec<NewRow> = tick.into_iter().map(|(s, at, stream)| new(s, at, stream)).collect();
                for new in &rows {
                    expected.entry((new.series, new.row.stream)).or_default().push(new.row);
                }
                OpenSlot::add(&mut open, rows);
            }
            for from in [0, from] {
                let found = open.values().flat_map(|open| open.iter_from(SeriesId(from)));
                let mut by_stream = BTreeMap::<(SeriesId, u32), Vec<Row>>::new();
                for (series, row) in found.flat_map(|(series, rows)| rows.into_iter().map(move |row| (series, row))) {
                    by_stream.entry((series, row.stream)).or_default().push(row);
                }
                prop_assert_eq!(by_stream, expected.clone().split_off(&(SeriesId(from), 0)));
            }
        }
    }

    #[test]
    fn names_are_kept_once_as_long_as_no_pod_comes() {
        let tick = |at| (0..3 * SPAN).filter(move |n| (n + at) % 16 > 0).map(move |n| new(n, at, 7 * n));
        let names = |open: &OpenSlots| -> BTreeSet<*const Name> {
            open.values().flat_map(|open| open.spans.values().flatten()).map(|run| run.names.as_ptr()).collect()
        };
        let mut open = OpenSlots::new();
        (0..20).for_each(|at| OpenSlot::add(&mut open, tick(at).collect()));
        assert_eq!(names(&open).len(), 6, "those that the first tick lacked came with the second");
        let one_moved = tick(21).map(|row| if row.series == SeriesId(5) { new(5, 21, 6) } else { row });
        OpenSlot::add(&mut open, one_moved.collect());
        OpenSlot::add(&mut open, tick(22).collect());
        assert_eq!(names(&open).len(), 7);
    }
}
