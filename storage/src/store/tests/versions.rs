//! What a newer program wrote is refused with both versions named, whatever carries the version, and
//! left alone.

use std::fs;
use std::path::{Path, PathBuf};

use super::{NOW, open, samples};
use crate::sled_part::SledPart;
use crate::store::{RestoreOptions, Store, StoreOptions};
use crate::{OpenError, RestoreError, snapshot};

const NEWER: u8 = 2;

/// What carries a version.
#[derive(Clone, Copy, Debug)]
enum Carrier {
    /// The records of the sled part whose key begins so.
    Record(u8),
    SlotFile,
    Snapshot,
}

const ALL: [Carrier; 6] = [
    Carrier::Record(b'h'),
    Carrier::Record(b'f'),
    Carrier::Record(b's'),
    Carrier::Record(b'm'),
    Carrier::SlotFile,
    Carrier::Snapshot,
];

impl Carrier {
    /// Makes it one of the next version; all checksums match.
    fn renew(self, dir: &Path) {
        match self {
            Self::Record(prefix) => {
                let (part, pairs) = SledPart::open(&dir.join("sled")).unwrap();
                let (key, mut value) = pairs.into_iter().find(|(key, _)| key[0] == prefix).unwrap();
                value[4] = NEWER;
                let crc = crc32fast::hash(&[&key[..], &value[4..]].concat());
                value[..4].copy_from_slice(&crc.to_le_bytes());
                part.apply(vec![(key, value)], Vec::new()).unwrap();
            }
            Self::SlotFile => change(&dir.join("slots"), |bytes| {
                bytes[8] = NEWER;
                let foot = bytes.len() - 16;
                let len = u32::from_le_bytes(bytes[foot..foot + 4].try_into().unwrap()) as usize;
                let crc = crc32fast::hash(&[&bytes[..19], &bytes[foot - len..foot]].concat());
                bytes[foot + 4..foot + 8].copy_from_slice(&crc.to_le_bytes());
            }),
            Self::Snapshot => change(&dir.join("series"), |bytes| bytes[8] = NEWER),
        }
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Changes the first file of a folder, which may be a link of another store's.
fn change(folder: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let path = files(folder).remove(0);
    let mut bytes = fs::read(&path).unwrap();
    change(&mut bytes);
    fs::remove_file(&path).unwrap();
    fs::write(&path, bytes).unwrap();
}

/// What is there beside sled's own files.
fn told(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let folders = ["", "slots", "series", "quarantine"].map(|name| files(&dir.join(name)));
    folders.concat().into_iter().map(|path| (path.clone(), fs::read(path).unwrap_or_default())).collect()
}

fn assert_refused(error: &OpenError, context: &str) {
    assert!(matches!(error, OpenError::NewerFormat { found: 2, supported: 1, .. }), "{context}: {error}");
    let text = error.to_string();
    assert!(text.contains("has format version 2, this program reads 1"), "{context}: {text}");
}

#[test]
fn whatever_a_newer_program_wrote_is_refused_and_left_alone() {
    for carrier in ALL {
        let root = tempfile::tempdir().unwrap();
        let [dir, backup, scratch, other] = ["store", "backup", "scratch", "other"].map(|name| root.path().join(name));
        let store = open(&dir);
        for n in 0..8 {
            let at = NOW + std::time::Duration::from_mins(n);
            store.append(at, &samples(&store, 2, at)).unwrap();
            store.maintain(at).unwrap();
        }
        let held = store.held();
        snapshot::write(&dir.join("series"), held.next_id, &held.records).unwrap();
        drop(held);
        store.backup(&backup, NOW).unwrap();
        drop(store);
        for dir in [&dir, &backup] {
            carrier.renew(dir);
        }
        let before = told(&dir);
        let context = format!("{carrier:?}");
        for _ in 0..2 {
            assert_refused(&Store::open(&dir, StoreOptions::default(), NOW).unwrap_err(), &context);
            assert_refused(&Store::examine(&dir, &scratch).unwrap_err(), &context);
            assert!(told(&dir) == before, "{context}");
        }
        for allow_damaged in [false, true] {
            let options = RestoreOptions { allow_damaged, ..RestoreOptions::default() };
            let error = Store::restore(&backup, &other, options, &scratch).unwrap_err();
            let RestoreError::Open(error) = error else { unreachable!("{context}: {error}") };
            assert_refused(&error, &format!("{context} of a backup"));
            assert!(!other.exists());
        }
    }
}
