//! Opening: read the sled part and the slot files, find out what is missing or damaged, and bring
//! both to agree.
//!
//! Invariant: what is damaged is moved aside and reported, never served and never deleted; what is
//! intact is served.

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};

use super::keys::{self, Head, Key};
use super::maintain::{manifest_changes, quarantine};
use super::records::Records;
use super::replay::{Replayed, replay};
use super::{Broken, Paths, Store, StoreOptions, Writer, rewrite};
use crate::catalog::Catalog;
use crate::chunk::RingSpace;
use crate::codec::DecodeError;
use crate::sled_part::{self, Pair, PartError, SledPart};
use crate::slot::Slot;
use crate::slot_file::{ReadError, SlotFile, file_name, sync_parent};
use crate::snapshot;
use crate::table::{self, SeriesRecord, SeriesTable};
use crate::witness::Witness;
use crate::{OpenError, Timestamp};

/// How often sled is asked to open a database before it counts as damaged.
const OPEN_TRIES: usize = 4;

impl Store {
    /// Opens the store in `dir`, which is created when it is missing; only one at a time can have
    /// it open. Damage does not keep it from opening: [`Store::status`] tells it.
    pub fn open(dir: &Path, options: StoreOptions, now: Timestamp) -> Result<Self, OpenError> {
        let paths = Paths { dir: dir.to_owned() };
        let lock = prepare(&paths)?;
        let mut opening = Opening::new(paths);
        let (part, pairs) = opening.open_part(now)?;
        let records = Records::parse(pairs).map_err(|e| unreadable(&opening.paths.sled(), &e))?;
        let catalog = opening.read_slots(&records)?;
        let witness = opening.open_witness(&records.head)?;
        opening.check(&records, &catalog);
        opening.note_missing(&records, &catalog)?;
        let table = opening.read_table(&records, &catalog)?;
        if opening.broken.is_none() {
            opening.check_snapshots()?;
        }
        let replayed = replay(records.frames, &records.head, &catalog, &table);
        let told = records.manifest.into_keys().collect();
        let values = (records.head.table_values, records.table_bytes);
        let handles = (lock, part, witness);
        let leftovers = replayed.leftovers.clone();
        let store = opening.build(options, handles, (catalog, table, replayed), values);
        store.agree(&told, &leftovers, now)?;
        Ok(store)
    }

    /// Brings the sled part to say what was found, without the chunks of `leftovers`.
    fn agree(&self, told: &BTreeSet<Slot>, leftovers: &[u32], now: Timestamp) -> Result<(), OpenError> {
        let mut writer = self.writer();
        let catalog = self.shared().catalog.clone();
        let (missing, surplus) = manifest_changes(&catalog, told);
        let agreed = if writer.broken.is_some() {
            self.rewrite(&mut writer, now)
        } else if missing.is_empty() && surplus.is_empty() && leftovers.is_empty() {
            Ok(())
        } else {
            let files = missing.iter().filter_map(|slot| catalog.get(*slot));
            let entry =
                |file: &Arc<SlotFile>| Key::Manifest(file.slot()).pair(&keys::encode_manifest_entry(file.size()));
            let surplus = surplus.into_iter().map(Key::Manifest);
            let removes = surplus.chain(leftovers.iter().copied().map(Key::Chunk));
            let removes = removes.map(Key::bytes).collect();
            self.apply(&writer, files.map(entry).collect(), removes)
        };
        agreed.map_err(|e| database(&self.paths.sled(), &e))
    }
}

/// Creates the folders, durably, and takes the lock.
fn prepare(paths: &Paths) -> Result<File, OpenError> {
    for dir in [paths.dir.clone(), paths.slots(), paths.snapshots(), paths.quarantine()] {
        if !dir.exists() {
            fs::create_dir_all(&dir).map_err(|e| failed("create", &dir, e))?;
            sync_parent(&dir).map_err(|e| failed("sync the folder of", &dir, e))?;
        }
    }
    lock(paths)
}

/// Takes the lock of a folder that is there.
pub(super) fn lock(paths: &Paths) -> Result<File, OpenError> {
    let path = paths.dir.join("lock");
    let lock = File::options().create(true).truncate(false).write(true).open(&path);
    let lock = lock.map_err(|e| failed("open", &path, e))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse { dir: paths.dir.clone() }),
        Err(TryLockError::Error(e)) => Err(failed("lock", &path, e)),
    }
}

/// More than sled needs to open a sound database.
const PROBE_BYTES: usize = 4 << 20;

/// Whether the volume takes what opening a database writes.
fn probe(paths: &Paths) -> io::Result<()> {
    let path = paths.probe();
    let written = File::create(&path).and_then(|mut file| {
        file.write_all(&vec![1; PROBE_BYTES])?;
        file.sync_all()
    });
    let removed = fs::remove_file(&path);
    written.and(removed)
}

pub(super) fn failed(action: &'static str, path: &Path, source: io::Error) -> OpenError {
    let path = path.to_owned();
    OpenError::Io { action, path, source }
}

/// Only a newer format makes something unreadable that is not damaged.
pub(super) fn unreadable(path: &Path, error: &DecodeError) -> OpenError {
    let path = path.to_owned();
    match *error {
        DecodeError::Newer { found, supported, .. } => OpenError::NewerFormat { path, found, supported },
        _ => failed("read", &path, io::Error::new(io::ErrorKind::InvalidData, *error)),
    }
}

fn database(dir: &Path, error: &PartError) -> OpenError {
    let (dir, reason) = (dir.to_owned(), error.to_string());
    OpenError::Database { dir, reason }
}

/// The work of opening, and what it found wrong.
#[derive(Debug)]
pub(super) struct Opening {
    pub(super) paths: Paths,
    pub(super) problems: Vec<String>,
    broken: Option<Broken>,
}

impl Opening {
    pub(super) fn new(paths: Paths) -> Self {
        Self { paths, problems: Vec::new(), broken: None }
    }

    /// Notes damage of the sled part, which will be rewritten.
    pub(super) fn damaged(&mut self, problem: String) {
        self.problems.push(problem);
        self.broken = Some(Broken::Damaged);
    }

    /// Opens the sled part, or a new one in its place when it cannot be opened.
    fn open_part(&mut self, now: Timestamp) -> Result<(SledPart, Vec<Pair>), OpenError> {
        let dir = self.paths.sled();
        sled_part::finish_swap(&dir).map_err(|e| database(&dir, &e))?;
        // A volume that is full, read-only or failing says nothing about the database; and on a full
        // one sled leaves a database behind that it cannot open afterwards.
        probe(&self.paths).map_err(|e| failed("write in", &self.paths.dir, e))?;
        let error = match open_patiently(&dir) {
            Ok(opened) => return Ok(opened),
            Err(error) => error,
        };
        if error.is_refusal() {
            return Err(database(&dir, &error));
        }
        probe(&self.paths).map_err(|e| failed("write in", &self.paths.dir, e))?;
        let aside = self.paths.damaged_sled(now);
        fs::rename(&dir, &aside).map_err(|e| failed("move aside", &dir, e))?;
        self.problems.push(format!(
            "the database could not be read ({error}); it was moved to {}, and a new one built from the sealed slots: samples of the open slots are lost",
            aside.display()
        ));
        self.broken = Some(Broken::Failed);
        SledPart::open(&dir).map_err(|e| database(&dir, &e))
    }

    /// Opens all slot files; what cannot be read is moved aside.
    fn read_slots(&mut self, records: &Records) -> Result<Catalog, OpenError> {
        let dir = self.paths.slots();
        let mut files = Vec::new();
        for path in list(&dir)? {
            match path.extension().and_then(|e| e.to_str()) {
                Some("tmp") => fs::remove_file(&path).map_err(|e| failed("remove", &path, e))?,
                Some("slot") => files.extend(self.read_slot(&path)?),
                _ => {}
            }
        }
        self.settle(files, records)
    }

    fn read_slot(&mut self, path: &Path) -> Result<Option<SlotFile>, OpenError> {
        match open_slot_file(path)? {
            Ok(file) => Ok(Some(file)),
            Err(error) => {
                self.quarantine(path, &error.to_string())?;
                Ok(None)
            }
        }
    }

    fn quarantine(&mut self, path: &Path, error: &str) -> Result<(), OpenError> {
        let dir = self.paths.quarantine();
        quarantine(path, &dir).map_err(|e| failed("move aside", path, e))?;
        let (path, dir) = (path.display(), dir.display());
        self.problems.push(format!("{path}: {error}; its samples are lost, the file was moved to {dir}"));
        Ok(())
    }

    /// A file that the manifest does not know was completed just before a crash: it counts when
    /// all of it is right. The inputs of a roll-up that counts are removed.
    fn settle(&mut self, files: Vec<SlotFile>, records: &Records) -> Result<Catalog, OpenError> {
        let mut catalog = Catalog::default();
        for file in files {
            let known = records.manifest.contains_key(&file.slot());
            let damage = if known { None } else { first_damage(&file) };
            match damage {
                Some(error) => self.quarantine(file.path(), &error)?,
                None => catalog = catalog.changed(Some(Arc::new(file)), &[]),
            }
        }
        let superseded = catalog.superseded();
        for slot in &superseded {
            let path = self.paths.slots().join(file_name(*slot));
            fs::remove_file(&path).map_err(|e| failed("remove", &path, e))?;
        }
        Ok(catalog.changed(None, &superseded))
    }

    /// Damage can make sled fall back to an older state; the witness beside it then knows of later
    /// ticks.
    fn open_witness(&mut self, head: &Head) -> Result<Witness, OpenError> {
        let path = self.paths.witness();
        let witness = Witness::open(&path).map_err(|e| failed("open", &path, e))?;
        self.check_witness(&witness, head);
        Ok(witness)
    }

    pub(super) fn check_witness(&mut self, witness: &Witness, head: &Head) {
        if witness.is_damaged(head.next_seq) {
            let path = self.paths.witness();
            self.problems
                .push(format!("{} cannot be read; if the database lost its last ticks, nothing tells", path.display()));
        }
        let last = witness.last_tick().filter(|last| *last >= head.next_seq);
        if let Some(last) = last {
            let known = head.next_seq;
            self.damaged(format!(
                "the database knows of {known} ticks, but {} were stored: samples of the ticks between are lost, as far as their slots were open",
                last.saturating_add(1)
            ));
        }
    }

    /// Compares what was found with what must be there.
    pub(super) fn check(&mut self, records: &Records, catalog: &Catalog) {
        if records.damaged > 0 {
            self.damaged(format!("{} records of the database are damaged and were left out", records.damaged));
        }
        let untouched = records.is_empty && catalog.slots().next().is_none();
        if !records.has_head && !untouched && self.broken.is_none() {
            self.damaged("the database lost its head record; ticks of the open slots may be lost".to_owned());
        }
        let values = 0..records.head.table_values;
        if values.into_iter().any(|n| !records.table.contains_key(&n)) {
            self.damaged("the database lost a part of the series table; it is filled from the slot files".to_owned());
        }
        if records.has_head && records.manifest.len() as u64 != u64::from(records.head.slots) {
            self.damaged("the database lost a part of the manifest; it is filled from the slot files".to_owned());
        }
        for name in self.missing(records, catalog) {
            self.problems.push(format!("slots/{name} is missing; its samples are lost"));
        }
    }

    /// Files of the manifest that are gone, but not for their damage.
    fn missing(&self, records: &Records, catalog: &Catalog) -> Vec<String> {
        let gone = records.manifest.keys().filter(|slot| !catalog.covers(**slot));
        let names = gone.map(|slot| file_name(*slot));
        names.filter(|name| !self.paths.quarantine().join(name).exists()).collect()
    }

    /// The manifest will not tell of missing files any more: notes beside the damaged ones do.
    fn note_missing(&self, records: &Records, catalog: &Catalog) -> Result<(), OpenError> {
        for name in self.missing(records, catalog) {
            let path = self.paths.quarantine().join(format!("{name}.missing"));
            fs::write(&path, b"").map_err(|e| failed("note a missing file in", &path, e))?;
        }
        Ok(())
    }

    /// A damaged snapshot is moved aside; the next one tells all names again.
    fn check_snapshots(&mut self) -> Result<(), OpenError> {
        let dir = self.paths.snapshots();
        for path in snapshot::list(&dir).map_err(|e| failed("read", &dir, e))?.values() {
            match snapshot::check(path) {
                Ok(()) => {}
                Err(ReadError::Damaged(e @ DecodeError::Newer { .. })) => return Err(unreadable(path, &e)),
                Err(error) => {
                    let aside = self.paths.quarantine();
                    quarantine(path, &aside).map_err(|e| failed("move aside", path, e))?;
                    let (path, aside) = (path.display(), aside.display());
                    self.problems
                        .push(format!("{path}: {error}; it was moved to {aside}, the database tells its names"));
                }
            }
        }
        Ok(())
    }

    /// The series table; the slot files and snapshots help where the sled part is not to be
    /// believed.
    pub(super) fn read_table(&mut self, records: &Records, catalog: &Catalog) -> Result<SeriesTable, OpenError> {
        let mut all: Vec<SeriesRecord> = records.table.values().flatten().cloned().collect();
        if self.broken.is_some() {
            all.extend(self.names_beside_sled(catalog)?);
            all.sort_by_key(|record| record.id);
        }
        let mut table = SeriesTable::default();
        for record in all {
            table.restore(record);
        }
        table.skip_to(records.head.next_id.min(table::MAX_ID));
        table.skip_to(catalog.files().map(|file| file.end_id()).max().unwrap_or(0));
        Ok(table)
    }

    fn names_beside_sled(&mut self, catalog: &Catalog) -> Result<Vec<SeriesRecord>, OpenError> {
        let dir = self.paths.snapshots();
        let mut all = Vec::new();
        for path in snapshot::list(&dir).map_err(|e| failed("read", &dir, e))?.values() {
            match snapshot::read(path) {
                Ok((records, damage)) => {
                    all.extend(records);
                    let problem = |e| format!("{}: {e}; names after it may be lost", path.display());
                    self.problems.extend(damage.map(problem));
                }
                Err(ReadError::Damaged(e @ DecodeError::Newer { .. })) => {
                    return Err(unreadable(path, &e));
                }
                Err(e) => self.problems.push(format!("{}: {e}; its names may be lost", path.display())),
            }
        }
        for file in catalog.files() {
            match file.names() {
                Ok(records) => all.extend(records),
                Err(e) => self.problems.push(format!("{}: {e}; the names in it may be lost", file.path().display())),
            }
        }
        Ok(all)
    }

    fn build(
        mut self,
        options: StoreOptions,
        (lock, part, witness): (File, SledPart, Witness),
        (catalog, table, replayed): (Catalog, SeriesTable, Replayed),
        (table_values, table_bytes): (u32, u64),
    ) -> Store {
        let Replayed { mut shared, streams, frames, next_seq, used, problems, .. } = replayed;
        for problem in problems {
            self.damaged(problem);
        }
        for problem in &self.problems {
            tracing::error!(store = %self.paths.dir.display(), problem, "damage in the store");
        }
        let next_seq = next_seq.max(witness.last_tick().map_or(0, |last| last.saturating_add(1)));
        let manifest_len = rewrite::len(&catalog);
        shared.catalog = Arc::new(catalog);
        let writer = Writer {
            part: Some(part),
            witness,
            space: RingSpace::with_used(&used),
            frames,
            streams,
            epoch_slot: None,
            next_seq,
            table_values,
            table_bytes,
            manifest_len,
            rollup: None,
            sweep: 0,
            broken: self.broken,
            live_peak: 0,
        };
        Store {
            paths: self.paths,
            options,
            table: RwLock::new(table),
            shared: RwLock::new(shared),
            writer: Mutex::new(writer),
            problems: Mutex::new(self.problems),
            cache: Mutex::default(),
            _lock: lock,
        }
    }
}

/// Opens the database; a read or write that fails may succeed the next time.
fn open_patiently(dir: &Path) -> Result<(SledPart, Vec<Pair>), PartError> {
    let mut opened = SledPart::open(dir);
    for _ in 1..OPEN_TRIES {
        match &opened {
            Err(error) if error.is_of_the_device() => opened = SledPart::open(dir),
            _ => break,
        }
    }
    opened
}

/// A slot file, or what is damaged about it.
pub(super) fn open_slot_file(path: &Path) -> Result<Result<SlotFile, ReadError>, OpenError> {
    match SlotFile::open(path) {
        Err(ReadError::Damaged(e @ DecodeError::Newer { .. })) => Err(unreadable(path, &e)),
        opened => Ok(opened),
    }
}

pub(super) fn list(dir: &Path) -> Result<Vec<PathBuf>, OpenError> {
    let entries = fs::read_dir(dir).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let entries = entries.map_err(|e| failed("read", dir, e))?;
    let mut paths: Vec<PathBuf> = entries.iter().map(fs::DirEntry::path).collect();
    paths.sort();
    Ok(paths)
}

/// Reads all of a file.
pub(super) fn first_damage(file: &SlotFile) -> Option<String> {
    let blocks = (0..file.block_count()).find_map(|i| file.block(i).err());
    blocks.or_else(|| file.names().err()).map(|e| e.to_string())
}
