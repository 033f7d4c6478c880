//! Opening, second part: read the sled part, find out what is missing or damaged, and bring it and
//! the slot files to agree.
//!
//! Invariant: readers see the sealed slots alone or everything, and nothing twice.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::keys::{self, Head, Key};
use super::maintain::{absent_is_fine, manifest_changes, quarantine};
use super::open::{Opening, failed, first_damage, table_of, unreadable};
use super::records::Records;
use super::replay::replay;
use super::{Broken, Paths, Progress, Store, Writer, rewrite};
use crate::catalog::Catalog;
use crate::chunk::RingSpace;
use crate::codec::DecodeError;
use crate::sled_part::{self, Pair, PartError, SledPart};
use crate::slot::Slot;
use crate::slot_file::{ReadError, SlotFile, file_name};
use crate::snapshot;
use crate::table::{self, SeriesRecord, SeriesTable};
use crate::witness::Witness;
use crate::{OpenError, Timestamp};

/// How often sled is asked to open a database before it counts as damaged.
const OPEN_TRIES: usize = 4;

impl Store {
    /// Reads what [`Store::open_sealed`] left out: the open slots. Appending and maintaining do so
    /// by themselves; doing it before saves the first tick the time. Does nothing the second time.
    ///
    /// # Errors
    /// When the format is newer than this program, or the volume is full, read-only or failing.
    /// Sealed slots are served all the same, nothing is lost, and a later call tries again.
    pub fn load(&self, now: Timestamp) -> Result<(), OpenError> {
        self.loaded(&mut self.progress(), now).map(|_| ())
    }

    /// Whether the open slots were read.
    pub fn is_loaded(&self) -> bool {
        self.is_loaded.load(Ordering::Acquire)
    }

    /// The writer, once the store is loaded, which it tries to.
    pub(super) fn loaded<'a>(&self, progress: &'a mut Progress, now: Timestamp) -> Result<&'a mut Writer, OpenError> {
        let writer = if let Some(writer) = progress.writer.take() {
            writer
        } else {
            let read = self.read_rest(&mut progress.opening, now);
            self.report_found(&mut progress.opening);
            read?
        };
        Ok(progress.writer.insert(writer))
    }

    fn read_rest(&self, opening: &mut Opening, now: Timestamp) -> Result<Writer, OpenError> {
        let (part, pairs) = opening.open_part(now)?;
        let records = Records::parse(pairs).map_err(|e| unreadable(&opening.paths.sled(), &e))?;
        let known = self.shared().catalog.clone();
        let catalog = opening.compare(&known, &records)?;
        self.shared_mut().catalog = Arc::new(catalog.clone());
        let witness = opening.open_witness(&records.head)?;
        opening.check(&records, &catalog);
        opening.note_missing(&records, &catalog)?;
        let mut table = opening.read_table(&records, &catalog)?;
        if opening.broken.is_none() {
            opening.check_snapshots()?;
        }
        if records.is_old {
            opening.broken = opening.broken.or(Some(Broken::Old));
        }
        let replayed = replay(records.frames, &records.head, &catalog, &table);
        for problem in replayed.problems {
            opening.damaged(problem);
        }
        let mut writer = Writer {
            next_seq: replayed.next_seq.max(witness.last_tick().map_or(0, |last| last.saturating_add(1))),
            part: Some(part),
            witness,
            space: RingSpace::with_used(&replayed.used),
            frames: replayed.frames,
            streams: replayed.streams,
            epoch_slot: None,
            table_values: records.head.table_values,
            table_bytes: records.table_bytes,
            manifest_len: rewrite::len(&catalog),
            rollup: None,
            sweep: 0,
            broken: opening.broken,
            live_peak: 0,
        };
        let mut shared = replayed.shared;
        shared.catalog = Arc::new(catalog);
        {
            let mut early = self.early_mut();
            early.end(&mut table);
            *self.table_mut() = table;
            *self.shared_mut() = shared;
            self.is_loaded.store(true, Ordering::Release);
        }
        let told = records.manifest.into_keys().collect();
        self.agree(&mut writer, &told, &replayed.leftovers, now);
        Ok(writer)
    }

    /// Brings the sled part to say what was found, without the chunks of `leftovers`. Where that
    /// fails, the next append tries again.
    fn agree(&self, writer: &mut Writer, told: &BTreeSet<Slot>, leftovers: &[u32], now: Timestamp) {
        let catalog = self.shared().catalog.clone();
        let (missing, surplus) = manifest_changes(&catalog, told);
        let agreed = if writer.broken.is_some() {
            self.rewrite(writer, now)
        } else if missing.is_empty() && surplus.is_empty() && leftovers.is_empty() {
            Ok(())
        } else {
            let files = missing.iter().filter_map(|slot| catalog.get(*slot));
            let entry =
                |file: &Arc<SlotFile>| Key::Manifest(file.slot()).pair(&keys::encode_manifest_entry(file.size()));
            let surplus = surplus.into_iter().map(Key::Manifest);
            let removes = surplus.chain(leftovers.iter().copied().map(Key::Chunk));
            let removes = removes.map(Key::bytes).collect();
            self.apply(writer, files.map(entry).collect(), removes)
        };
        if let Err(error) = agreed {
            tracing::warn!(store = %self.paths.dir.display(), %error, "the database cannot be brought up to date yet");
            writer.broken = writer.broken.or(Some(Broken::Failed));
        }
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

fn database(dir: &Path, error: &PartError) -> OpenError {
    let (dir, reason) = (dir.to_owned(), error.to_string());
    OpenError::Database { dir, reason }
}

impl Opening {
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

    /// A file that the manifest does not know was completed just before a crash: it counts when
    /// all of it is right, else the frames of its samples do. Slots that a longer one took the
    /// place of are removed.
    fn compare(&mut self, catalog: &Catalog, records: &Records) -> Result<Catalog, OpenError> {
        let mut damaged = Vec::new();
        for file in catalog.files().filter(|file| !records.manifest.contains_key(&file.slot())) {
            if let Some(error) = first_damage(file) {
                self.quarantine(file.path(), &error)?;
                damaged.push(file.slot());
            }
        }
        for slot in &self.superseded {
            let path = self.paths.slots().join(file_name(*slot));
            fs::remove_file(&path).or_else(absent_is_fine).map_err(|e| failed("remove", &path, e))?;
        }
        self.superseded.clear();
        Ok(catalog.changed(None, &damaged))
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
        let entries = records.manifest.len() as u64;
        if records.head.slots.is_some_and(|slots| u64::from(slots) != entries) {
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
        }
        let mut table = table_of(all);
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
