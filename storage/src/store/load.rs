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

use super::keys::{Key, manifest_record};
use super::maintain::manifest_changes;
use super::open::{Opening, failed, unreadable};
use super::records::Records;
use super::replay::replay;
use super::{Broken, Paths, Progress, Store, Writer, rewrite};
use crate::chunk::RingSpace;
use crate::sled_folder;
use crate::sled_part::{Pair, PartError, SledPart};
use crate::slot::Slot;
use crate::{OpenError, Timestamp};

/// How often sled is asked to open a database before it counts as damaged.
const OPEN_TRIES: usize = 4;

impl Store {
    /// Reads what [`Store::open_sealed`] left out: the open slots. Appending and maintaining do so
    /// by themselves; doing it before saves the first tick the time. Does nothing the second time.
    ///
    /// # Errors
    /// When the format is newer than this program, or the volume is full, read-only or failing.
    /// Sealed slots are served all the same, and a later call tries again. Nothing is lost by that but what a device has
    /// failed to read for ten minutes, which counts as damaged then.
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
        opening.begin_loading(now);
        let (part, pairs) = opening.open_part(now)?;
        let records = Records::parse(pairs).map_err(|e| unreadable(&opening.paths.sled(), &e))?;
        let known = self.shared().catalog.clone();
        let known = opening.read_unread(&known)?;
        self.shared_mut().catalog = Arc::new(known.clone());
        let catalog = opening.compare(&known, &records)?;
        self.shared_mut().catalog = Arc::new(catalog.clone());
        let (witness, last_noted) = opening.open_witness(&records.head)?;
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
            next_seq: replayed.next_seq.max(last_noted.map_or(0, |last| last.saturating_add(1))),
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
            let surplus = surplus.into_iter().map(Key::Manifest);
            let removes = surplus.chain(leftovers.iter().copied().map(Key::Chunk));
            let removes = removes.map(Key::bytes).collect();
            self.apply(writer, files.map(|file| manifest_record(file)).collect(), removes)
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

pub(super) fn database(dir: &Path, error: &PartError) -> OpenError {
    let (dir, reason) = (dir.to_owned(), error.to_string());
    OpenError::Database { dir, reason }
}

impl Opening {
    /// Notes damage of the sled part, which will be rewritten.
    pub(super) fn damaged(&mut self, problem: String) {
        self.problems.push(problem);
        if self.broken != Some(Broken::Failed) {
            self.broken = Some(Broken::Damaged); // else it was moved aside, and what is there is new
        }
    }

    /// Opens the sled part, or a new one in its place when it cannot be opened.
    fn open_part(&mut self, now: Timestamp) -> Result<(SledPart, Vec<Pair>), OpenError> {
        let dir = self.paths.sled();
        sled_folder::finish_swap(&dir).map_err(|e| database(&dir, &e.into()))?;
        // A volume that is full, read-only or failing says nothing about the database; and on a full
        // one sled leaves a database behind that it cannot open afterwards.
        probe(&self.paths).map_err(|e| failed("write in", &self.paths.dir, e))?;
        let error = match open_patiently(&dir) {
            Ok(opened) => return Ok(opened),
            Err(error) => error,
        };
        if error.is_refusal() || error.is_of_the_device() && self.is_patient(now) {
            return Err(database(&dir, &error));
        }
        probe(&self.paths).map_err(|e| failed("write in", &self.paths.dir, e))?;
        if self.broken == Some(Broken::Failed) {
            sled_folder::remove(&dir).map_err(|e| database(&dir, &e.into()))?; // the one before was moved aside
        } else {
            let aside = self.paths.damaged_sled(now);
            fs::rename(&dir, &aside).map_err(|e| failed("move aside", &dir, e))?;
            self.problems.push(format!(
                "the database could not be read ({error}); it was moved to {}, and a new one built from the sealed slots: samples of the open slots are lost",
                aside.display()
            ));
            self.broken = Some(Broken::Failed);
        }
        SledPart::open(&dir).map_err(|e| database(&dir, &e))
    }
}

/// Opens the database; a read or write that fails may succeed the next time.
fn open_patiently(dir: &Path) -> Result<(SledPart, Vec<Pair>), PartError> {
    let mut opened = SledPart::open(dir);
    for _ in 1..OPEN_TRIES {
        match &opened {
            Err(error) if error.may_be_of_the_device() => opened = SledPart::open(dir),
            _ => break,
        }
    }
    opened
}
