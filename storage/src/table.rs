//! The series table: keys to numbers and back.
//!
//! May not know: files, sled, samples. Invariant: a number stands for one key as long as the store
//! lives; numbers are never given out twice.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::codec::{DecodeError, Reader, put_signed, put_text, put_varint};
use crate::series::make_room;
use crate::{SeriesId, SeriesKey, Timestamp};

/// One series as it is written to disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct SeriesRecord {
    pub(crate) id: SeriesId,
    /// Its first sample ever.
    pub(crate) first: Timestamp,
    /// The packed key.
    pub(crate) key: Arc<str>,
}

#[derive(Debug)]
struct Entry {
    key: Arc<str>,
    /// `None` until a durable tick has used the series.
    first: Option<Timestamp>,
    /// Asked for since the last sweep; such a series is not retired.
    wanted: AtomicBool,
    named: Named,
}

/// Which file beside the sled part tells a series' name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Named {
    /// None that we know of.
    Nowhere,
    /// A 5-minute slot's file.
    InSlotFile,
    /// A snapshot.
    InSnapshot,
}

/// All series of a store.
#[derive(Debug, Default)]
pub(crate) struct SeriesTable {
    ids: BTreeMap<Arc<str>, SeriesId>,
    entries: Vec<Option<Entry>>,
    stored: u64,
}

/// The four parts with NUL between them: one allocation, and the order of the packed keys is the
/// order of the keys. NUL cannot stand in a Kubernetes name; where one is given it becomes U+FFFD.
pub(crate) fn pack(key: &SeriesKey) -> String {
    let parts = [&key.namespace, &key.kind, &key.workload, &key.container];
    parts.map(|part| part.replace('\0', "\u{fffd}")).join("\0")
}

pub(crate) fn unpack(packed: &str) -> SeriesKey {
    let mut parts = packed.split('\0').map(str::to_owned);
    let mut part = || parts.next().unwrap_or_default();
    SeriesKey { namespace: part(), kind: part(), workload: part(), container: part() }
}

impl SeriesTable {
    pub(crate) fn get(&self, key: &SeriesKey) -> Option<SeriesId> {
        self.ids.get(pack(key).as_str()).copied()
    }

    /// The number of a known series, which is kept from being retired for now.
    pub(crate) fn want(&self, key: &SeriesKey) -> Option<SeriesId> {
        let id = self.get(key)?;
        self.entry(id)?.wanted.store(true, Ordering::Relaxed);
        Some(id)
    }

    /// Gives out the next number; what is written can be read up to [`MAX_ID`].
    pub(crate) fn intern(&mut self, key: &SeriesKey) -> SeriesId {
        if let Some(id) = self.want(key) {
            return id;
        }
        let id = SeriesId(self.next_id());
        let key: Arc<str> = pack(key).into();
        self.ids.insert(key.clone(), id);
        let len = self.entries.len() + 1;
        make_room(&mut self.entries, len);
        self.entries.push(Some(Entry { key, first: None, wanted: AtomicBool::new(true), named: Named::Nowhere }));
        id
    }

    /// All keys by number.
    pub(crate) fn keys(&self) -> impl Iterator<Item = SeriesKey> {
        self.entries.iter().flatten().map(|entry| unpack(&entry.key))
    }

    /// The number that the next new series gets.
    pub(crate) fn next_id(&self) -> u32 {
        u32::try_from(self.entries.len()).unwrap_or(u32::MAX)
    }

    /// Leaves out all numbers below `id`, which were given out before.
    pub(crate) fn skip_to(&mut self, id: u32) {
        let len = self.entries.len().max(id as usize);
        make_room(&mut self.entries, len);
        self.entries.resize_with(len, || None);
    }

    /// Takes a series from disk. Where a key has two numbers, it was forgotten and came back: the
    /// higher one counts. Where one number is told twice, older samples were imported: the earlier
    /// first sample counts.
    pub(crate) fn restore(&mut self, record: SeriesRecord) {
        self.skip_to(record.id.0.saturating_add(1));
        match self.ids.get(&record.key).copied() {
            Some(known) if known == record.id => return self.note_first(known, record.first),
            Some(known) if known > record.id => return,
            Some(older) => self.forget(older),
            None => {}
        }
        let Some(slot @ None) = self.entries.get_mut(record.id.0 as usize) else {
            return;
        };
        self.ids.insert(record.key.clone(), record.id);
        *slot = Some(Entry {
            key: record.key,
            first: Some(record.first),
            wanted: AtomicBool::new(false),
            named: Named::Nowhere,
        });
        self.stored += 1;
    }

    fn note_first(&mut self, id: SeriesId, at: Timestamp) {
        if let Some(Some(Entry { first: Some(first), .. })) = self.entries.get_mut(id.0 as usize) {
            *first = at.min(*first);
        }
    }

    fn entry(&self, id: SeriesId) -> Option<&Entry> {
        self.entries.get(id.0 as usize)?.as_ref()
    }

    pub(crate) fn contains(&self, id: SeriesId) -> bool {
        self.entry(id).is_some()
    }

    /// The packed key of a series.
    pub(crate) fn key(&self, id: SeriesId) -> Option<&str> {
        Some(&self.entry(id)?.key)
    }

    /// The first sample of a series that is on disk.
    pub(crate) fn first(&self, id: SeriesId) -> Option<Timestamp> {
        self.entry(id)?.first
    }

    /// How many series a durable tick has used.
    pub(crate) fn stored(&self) -> u64 {
        self.stored
    }

    /// A series as it will be written, with its first sample at `first`.
    pub(crate) fn record(&self, id: SeriesId, first: Timestamp) -> Option<SeriesRecord> {
        let key = self.entry(id)?.key.clone();
        Some(SeriesRecord { id, first, key })
    }

    /// Notes that these series are durable now.
    pub(crate) fn mark_stored(&mut self, records: &[SeriesRecord]) {
        for record in records {
            if let Some(Some(entry)) = self.entries.get_mut(record.id.0 as usize)
                && entry.first.replace(record.first).is_none()
            {
                self.stored += 1;
            }
        }
    }

    /// Series on disk whose names stand at most in such a file, by number.
    pub(crate) fn records(&self, at_most: Named) -> Vec<SeriesRecord> {
        let record = |(id, entry): (u32, &Option<Entry>)| {
            let entry = entry.as_ref().filter(|e| e.named <= at_most)?;
            Some(SeriesRecord { id: SeriesId(id), first: entry.first?, key: entry.key.clone() })
        };
        (0..).zip(&self.entries).filter_map(record).collect()
    }

    /// Notes where the names of these series stand now.
    pub(crate) fn mark_named(&mut self, records: &[SeriesRecord], named: Named) {
        for record in records {
            if let Some(Some(entry)) = self.entries.get_mut(record.id.0 as usize) {
                entry.named = named;
            }
        }
    }

    /// Series on disk in the order of their keys, those after `after`.
    pub(crate) fn ordered(&self, after: Option<&SeriesKey>) -> impl Iterator<Item = SeriesRecord> {
        let after = after.map(pack);
        let lower = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let range = self.ids.range::<str, _>((lower, Bound::Unbounded));
        range.filter_map(|(key, id)| {
            let first = self.first(*id)?;
            Some(SeriesRecord { id: *id, first, key: key.clone() })
        })
    }

    /// Forgets a series unless it was asked for since the last sweep; whether it is gone.
    pub(crate) fn retire(&mut self, id: SeriesId) -> bool {
        let entry = self.entry(id);
        if entry.is_none_or(|e| e.wanted.swap(false, Ordering::Relaxed)) {
            return false;
        }
        self.forget(id);
        true
    }

    fn forget(&mut self, id: SeriesId) {
        let slot = self.entries.get_mut(id.0 as usize);
        if let Some(entry) = slot.and_then(Option::take) {
            self.ids.remove(&entry.key);
            self.stored -= u64::from(entry.first.is_some());
        }
    }
}

/// Bytes of some records: count, then id step, first sample and key of each. Ids must ascend.
pub(crate) fn encode_records(records: &[SeriesRecord]) -> Vec<u8> {
    let mut out = Vec::with_capacity(records.len() * 64);
    put_varint(&mut out, records.len() as u64);
    let mut before = 0;
    for record in records {
        put_varint(&mut out, u64::from(record.id.0.saturating_sub(before)));
        before = record.id.0;
        put_signed(&mut out, record.first.0);
        put_text(&mut out, &record.key);
    }
    out
}

pub(crate) fn decode_records(bytes: &[u8]) -> Result<Vec<SeriesRecord>, DecodeError> {
    let mut reader = Reader::new(bytes);
    let count = reader.count(3, "the number of series")?;
    let mut records = Vec::with_capacity(count);
    let mut id = 0_u32;
    for _ in 0..count {
        let step = reader.varint32("a series' number")?;
        id = id.checked_add(step).ok_or(DecodeError::Invalid("a series' number"))?;
        let first = Timestamp(reader.signed("a series' first sample")?);
        let key = reader.text("a series' key")?;
        if id > MAX_ID || key.matches('\0').count() != 3 {
            return Err(DecodeError::Invalid("a series' key"));
        }
        records.push(SeriesRecord { id: SeriesId(id), first, key: key.into() });
    }
    reader.end("the end of the series")?;
    Ok(records)
}

/// Numbers index a table in memory: beyond this one a record is damaged, not large.
pub(crate) const MAX_ID: u32 = 1 << 28;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(namespace: &str, container: &str) -> SeriesKey {
        SeriesKey {
            namespace: namespace.to_owned(),
            kind: "Deployment".to_owned(),
            workload: "w".to_owned(),
            container: container.to_owned(),
        }
    }

    #[test]
    fn the_order_of_packed_keys_is_the_order_of_keys() {
        let keys = [key("a", "z"), key("a-b", "a"), key("a.b", "a"), key("ab", "a"), key("", "")];
        for a in &keys {
            for b in &keys {
                assert_eq!(pack(a).cmp(&pack(b)), a.cmp(b), "{a} {b}");
            }
            assert_eq!(unpack(&pack(a)), *a);
        }
    }

    #[test]
    fn a_number_is_never_given_out_twice() {
        let mut table = SeriesTable::default();
        let a = table.intern(&key("a", "a"));
        assert_eq!(table.intern(&key("a", "a")), a);
        assert!(!table.retire(a), "it was just asked for");
        assert!(table.retire(a));
        assert_ne!(table.intern(&key("a", "a")), a);
        assert!(!table.contains(a));
    }

    proptest! {
        #[test]
        fn records_come_back_and_arbitrary_bytes_err(bytes: Vec<u8>, first: i64, steps in prop::collection::vec(0_u32..1000, 0..20)) {
            let mut id = 0;
            let records: Vec<SeriesRecord> = steps.iter().map(|step| {
                id += step;
                SeriesRecord { id: SeriesId(id), first: Timestamp(first), key: pack(&key("n", &id.to_string())).into() }
            }).collect();
            prop_assert_eq!(decode_records(&encode_records(&records)).unwrap(), records);
            let _ = decode_records(&bytes);
        }
    }
}
