//! A store of version 0 is read, and its sled part rewritten; what was written in version 0 is made
//! here, by hand, from a store of today.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::{NOW, key, open, samples};
use crate::codec::put_varint;
use crate::record::Version;
use crate::sketch::Sketch as _;
use crate::sled_part::{Pair, SledPart};
use crate::slot_file::{BlockMeta, HEADER, MAGIC, SlotFile, encode_index, header, index_checksum};
use crate::store::Store;
use crate::table;
use crate::{SeriesId, Timestamp, Usage};

/// Turns a closed store into one of version 0.
fn downgrade(dir: &Path) {
    let (part, pairs) = SledPart::open(&dir.join("sled")).unwrap();
    part.apply(pairs.into_iter().map(old_record).collect(), Vec::new()).unwrap();
    drop(part);
    for entry in fs::read_dir(dir.join("slots")).unwrap() {
        let path = entry.unwrap().path();
        let bytes = old_slot_file(&SlotFile::open(&path).unwrap());
        fs::write(path, bytes).unwrap();
    }
    for entry in fs::read_dir(dir.join("series")).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        bytes[8..10].fill(0);
        fs::write(path, bytes).unwrap();
    }
}

/// `crc32 | version | payload`; the head did not tell how many entries the manifest has.
fn old_record((key, mut value): Pair) -> Pair {
    value[4..6].fill(0);
    if key == b"h" {
        let manifest_entries = 6 + 8 + 4 + 4;
        value.drain(manifest_entries..manifest_entries + 4);
    }
    let crc = crc32fast::hash(&[&key[..], &value[4..]].concat());
    value[..4].copy_from_slice(&crc.to_le_bytes());
    (key, value)
}

/// As today, but entries do not tell how many 5-minute slots were filled.
fn old_slot_file(file: &SlotFile) -> Vec<u8> {
    let slot = file.slot();
    let mut bytes = header(slot);
    bytes[8..10].fill(0);
    let head = bytes.clone();
    let mut blocks = Vec::new();
    for index in 0..file.block_count() {
        let entries = file.block(index).unwrap();
        let (mut block, mut bodies, mut before) = (Vec::new(), Vec::new(), 0);
        put_varint(&mut block, entries.len() as u64);
        for (SeriesId(id), entry) in &entries {
            let (mut body, mut cpu) = (Vec::new(), Vec::new());
            put_varint(&mut body, u64::try_from(entry.first.0 - slot.start.0).unwrap());
            put_varint(&mut body, u64::try_from(entry.last.0 - entry.first.0).unwrap());
            entry.cpu.encode(&mut cpu);
            put_varint(&mut body, cpu.len() as u64);
            body.extend(cpu);
            entry.memory.encode(&mut body);
            put_varint(&mut block, u64::from(id - before));
            put_varint(&mut block, body.len() as u64);
            bodies.extend(body);
            before = *id;
        }
        block.extend(bodies);
        blocks.push(meta((entries[0].0, entries[entries.len() - 1].0), bytes.len(), &block));
        bytes.extend(block);
    }
    let names = table::encode_records(&file.names().unwrap());
    let names_meta = meta((SeriesId(0), SeriesId(0)), bytes.len(), &names);
    bytes.extend(names);
    let index = encode_index(&blocks, names_meta);
    bytes.extend(&index);
    bytes.extend(u32::try_from(index.len()).unwrap().to_le_bytes());
    bytes.extend(index_checksum(&head, &index).to_le_bytes());
    bytes.extend(MAGIC);
    assert_eq!(head.len(), HEADER);
    bytes
}

fn meta((first, last): (SeriesId, SeriesId), offset: usize, bytes: &[u8]) -> BlockMeta {
    let (offset, len) = (offset as u64, u32::try_from(bytes.len()).unwrap());
    BlockMeta { first, last, offset, len, crc: crc32fast::hash(bytes) }
}

/// Three hours: an hour slot, 5-minute slots and open ones.
fn prepared(dir: &Path) -> Timestamp {
    let store = open(dir);
    let mut now = NOW;
    for tick in 0..720 {
        now = NOW + Duration::from_secs(15 * tick);
        store.append(now, &samples(&store, 5, now)).unwrap();
        store.maintain(now).unwrap();
    }
    while store.maintain(now).unwrap().pending {}
    now
}

fn answers(store: &Store, now: Timestamp) -> Vec<Usage> {
    let windows = [10, 60, 180].map(Duration::from_mins);
    let all = windows.iter().flat_map(|window| (0..5).map(move |n| store.usage(&key(n), *window, now)));
    all.map(|usage| usage.unwrap().unwrap()).collect()
}

#[test]
fn a_store_of_version_0_gives_the_same_answers_and_is_brought_to_version_1() {
    let dir = tempfile::tempdir().unwrap();
    let now = prepared(dir.path());
    let store = open(dir.path());
    let expected = answers(&store, now);
    drop(store);
    downgrade(dir.path());
    assert!(versions(dir.path()).iter().all(|version| *version == Version::Zero as u16));

    for _ in 0..2 {
        let store = open(dir.path());
        assert_eq!(store.status(now).problems, Vec::<String>::new());
        assert_eq!(answers(&store, now), expected);
        drop(store);
        assert!(versions(dir.path()).iter().all(|version| *version == Version::One as u16));
    }

    // New samples go on beside the old slots, and roll-ups of old slots are new ones.
    let store = open(dir.path());
    let later = now + Duration::from_hours(3);
    store.append(later, &samples(&store, 5, later)).unwrap();
    while store.maintain(later).unwrap().pending {}
    let day = store.usage(&key(4), Duration::from_hours(24), later).unwrap().unwrap();
    // 37 slots and 45 s of an open one: both began within a slot.
    assert_eq!((day.cpu.count(), day.covered.as_secs()), (721, 37 * 300 + 45));
    assert_eq!(store.status(later).problems, Vec::<String>::new());
}

/// The versions of all records of the sled part.
fn versions(dir: &Path) -> Vec<u16> {
    let (_part, pairs) = SledPart::open(&dir.join("sled")).unwrap();
    assert!(!pairs.is_empty());
    pairs.iter().map(|(_, value)| u16::from_le_bytes([value[4], value[5]])).collect()
}

/// `OPTIPOD_DOWNGRADE=DIR cargo test -p optipod-storage --lib downgrade -- --ignored` makes the
/// store in DIR one of version 0, for `tests/golden`.
#[test]
#[ignore = "changes the store in $OPTIPOD_DOWNGRADE, by hand only"]
fn downgrade_a_store() {
    downgrade(Path::new(&std::env::var("OPTIPOD_DOWNGRADE").unwrap()));
}
