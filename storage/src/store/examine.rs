//! Looking at a store's folder without changing anything in it.
//!
//! sled changes its files when it opens them, so its part, which is small, is opened as a copy; an
//! open store knows what is in it. May not know: answers. Invariant: the folder is as it was before.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use super::load::database;
use super::open::{
    Opening, check_slot_file, failed, is_there, list, lock_to_look, open_slot_file, or_damage, unreadable,
};
use super::records::Records;
use super::replay::replay;
use super::{Paths, Store};
use crate::catalog::Catalog;
use crate::sled_folder;
use crate::sled_part::SledPart;
use crate::slot_file::{ReadError, SlotFile, file_name};
use crate::snapshot;
use crate::witness::Witness;
use crate::{OpenError, SlotKind, StoreError, Timestamp};

/// What is in a store's folder.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Examination {
    /// Series with a name.
    pub series: u64,
    /// The `now` of the last tick of the open slots.
    pub last_tick: Option<Timestamp>,
    /// Starts of the slots that still take samples.
    pub open_slots: Vec<Timestamp>,
    /// The sealed slots' files that are whole or partly readable, by kind and time.
    pub slots: Vec<SlotExamination>,
    /// Bytes of the embedded database's files.
    pub database_bytes: u64,
    /// Bytes of its records that count.
    pub database_live_bytes: u64,
    /// What is damaged or missing, one sentence each.
    pub problems: Vec<String>,
    /// What was moved aside earlier because of damage.
    pub set_aside: Vec<PathBuf>,
}

/// One sealed slot's file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SlotExamination {
    /// How long the slot is.
    pub kind: SlotKind,
    /// When it starts.
    pub start: Timestamp,
    /// The file's size.
    pub bytes: u64,
    /// Blocks of up to 128 series.
    pub blocks: usize,
    /// What is wrong with the first damaged one, if any is.
    pub damage: Option<String>,
}

impl Store {
    /// Reads all that is in `dir`, a store's folder, and changes nothing; `scratch` is where a
    /// copy of the embedded database goes for the while.
    ///
    /// # Errors
    /// When the folder is not there, is in use, or its format is newer than this program.
    pub fn examine(dir: &Path, scratch: &Path) -> Result<Examination, OpenError> {
        let paths = Paths { dir: dir.to_owned() };
        let _lock = lock_to_look(&paths)?;
        if is_there(&paths.restored())? {
            // Its pieces are of two stores.
            let problem = "a restore was cut short; the next start of the recommender completes it";
            return Ok(Examination { problems: vec![problem.to_owned()], ..Examination::default() });
        }
        let mut opening = Opening::new(paths);
        opening.begin_loading(Timestamp(0)); // at no time in particular
        let records = read_copy(&mut opening, scratch)?;
        let catalog = read_catalog(&mut opening)?;
        read_witness(&mut opening, &records)?;
        opening.check(&records, &catalog);
        let slots = catalog.files().map(|file| slot(file)).collect::<Result<Vec<_>, _>>()?;
        let table = opening.read_table(&records, &catalog)?;
        let snapshots = damaged_snapshots(&opening.paths);
        let (database_live_bytes, frames) = (records.bytes, records.frames);
        let replayed = replay(frames, &records.head, &catalog, &table);
        let mut problems = opening.problems;
        problems.extend(replayed.problems);
        problems.extend(snapshots?);
        problems.extend(slots.iter().filter_map(SlotExamination::problem));
        Ok(Examination {
            series: table.stored(),
            last_tick: replayed.shared.last_tick,
            open_slots: replayed.shared.open.keys().copied().collect(),
            slots,
            database_bytes: sled_folder::disk_bytes(&opening.paths.sled()),
            database_live_bytes,
            problems,
            set_aside: set_aside(&opening.paths)?,
        })
    }

    /// As [`Store::examine`], of a store that is open: its files are read, and what is known of
    /// its database is told. Ticks go on meanwhile.
    ///
    /// # Errors
    /// [`StoreError::Loading`] before the store is loaded; others when a folder cannot be read.
    pub fn examine_open(&self) -> Result<Examination, StoreError> {
        let progress = self.progress();
        let database_live_bytes = progress.writer.as_ref().ok_or(StoreError::Loading)?.live_bytes();
        drop(progress);
        let (catalog, last_tick, open_slots) = {
            let shared = self.shared();
            (shared.catalog.clone(), shared.last_tick, shared.open.keys().copied().collect())
        };
        let slots = catalog.files().map(|file| self.examine_slot(file)).collect::<Result<_, _>>().map_err(unread)?;
        let mut problems = self.problems.lock().unwrap_or_else(PoisonError::into_inner).clone();
        problems.extend(self.missing(&catalog));
        problems.extend(damaged_snapshots(&self.paths).map_err(unread)?);
        Ok(Examination {
            series: self.table().stored(),
            last_tick,
            open_slots,
            slots,
            database_bytes: sled_folder::disk_bytes(&self.paths.sled()),
            database_live_bytes,
            problems,
            set_aside: set_aside(&self.paths).map_err(unread)?,
        })
    }

    /// A block that turned out damaged before was told then, and reads as empty.
    fn examine_slot(&self, file: &SlotFile) -> Result<SlotExamination, OpenError> {
        let new = slot(file)?;
        if let Some(problem) = new.problem() {
            self.report(problem);
            return Ok(new);
        }
        let known = file.has_damage().then(|| "a block turned out damaged before".to_owned());
        Ok(SlotExamination { damage: known, ..new })
    }

    /// Files that are gone and still read, because they are open. One that a roll-up removed
    /// meanwhile was taken out of the catalog before.
    fn missing(&self, catalog: &Catalog) -> Vec<String> {
        let gone = catalog.files().filter(|file| file.path().try_exists().is_ok_and(|there| !there));
        let gone: Vec<_> = gone.collect();
        let now = self.shared().catalog.clone();
        let problem = |file: &SlotFile| {
            let name = file_name(file.slot());
            format!("slots/{name} is missing; its samples are lost at the next start, a backup made now has them")
        };
        gone.into_iter().filter(|file| now.contains(file.slot())).map(|file| problem(file)).collect()
    }
}

/// Nothing is known of what the system does not let us read.
fn unread(error: OpenError) -> StoreError {
    match error {
        OpenError::Io { action, path, source } => StoreError::Io { action, path, source },
        other => StoreError::NotLoaded { source: Box::new(other) },
    }
}

impl SlotExamination {
    fn problem(&self) -> Option<String> {
        let (kind, start) = (self.kind, self.start);
        self.damage.as_ref().map(|damage| format!("the {kind:?} slot at {start} is damaged: {damage}"))
    }
}

fn slot(file: &SlotFile) -> Result<SlotExamination, OpenError> {
    let (slot, bytes, blocks) = (file.slot(), file.size(), file.block_count());
    let damage = or_damage(file.path(), check_slot_file(file))?.err();
    Ok(SlotExamination { kind: slot.kind, start: slot.start, bytes, blocks, damage: damage.map(|e| e.to_string()) })
}

/// The records of the sled part, read from a copy; none when it cannot be read.
fn read_copy(opening: &mut Opening, scratch: &Path) -> Result<Records, OpenError> {
    let sled = opening.paths.sled();
    let sled = sled_folder::complete(&sled).map_err(|e| failed("look for", &sled, e))?;
    if !is_there(&sled)? {
        return Ok(Records { is_empty: true, ..Records::default() });
    }
    let copy = scratch.join("sled");
    sled_folder::copy(&sled, &copy).map_err(|e| failed("copy", &sled, e))?;
    let opened = SledPart::open(&copy).map(|(part, pairs)| {
        drop(part);
        pairs
    });
    fs::remove_dir_all(&copy).map_err(|e| failed("remove", &copy, e))?;
    match opened {
        Ok(pairs) => Records::parse(pairs).map_err(|e| unreadable(&sled, &e)),
        Err(error) if error.is_refusal() || error.is_of_the_device() => Err(database(&copy, &error)),
        Err(error) => {
            opening.damaged(format!("the database cannot be read: {error}; samples of the open slots are lost"));
            Ok(Records::default())
        }
    }
}

fn read_witness(opening: &mut Opening, records: &Records) -> Result<(), OpenError> {
    let path = opening.paths.witness();
    if is_there(&path)? {
        let witness = Witness::look(&path).map_err(|e| failed("open", &path, e))?;
        opening.check_witness(&witness, &records.head)?;
    }
    Ok(())
}

fn read_catalog(opening: &mut Opening) -> Result<Catalog, OpenError> {
    let mut catalog = Catalog::default();
    for path in list(&opening.paths.slots())? {
        if path.extension().and_then(|e| e.to_str()) == Some("slot") {
            match open_slot_file(&path)? {
                Ok(file) => catalog = catalog.changed(Some(file.into()), &[]),
                Err(damage) => {
                    opening.problems.push(format!("{}: {damage}", path.display()));
                    opening.told.extend(path.file_name().map(OsString::from));
                }
            }
        }
    }
    let superseded = catalog.superseded();
    Ok(catalog.changed(None, &superseded))
}

fn damaged_snapshots(paths: &Paths) -> Result<Vec<String>, OpenError> {
    let dir = paths.snapshots();
    let mut problems = Vec::new();
    for path in snapshot::list(&dir).map_err(|e| failed("read", &dir, e))?.values() {
        let checked = match snapshot::check(path) {
            // An open store has replaced it since.
            Err(ReadError::Io(e)) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            checked => or_damage(path, checked)?,
        };
        problems.extend(checked.err().map(|damage| format!("{}: {damage}", path.display())));
    }
    Ok(problems)
}

fn set_aside(paths: &Paths) -> Result<Vec<PathBuf>, OpenError> {
    let is_damaged = |path: &PathBuf| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("sled.damaged"));
    let mut found: Vec<PathBuf> = list(&paths.dir)?.into_iter().filter(is_damaged).collect();
    match list(&paths.quarantine()) {
        Ok(files) => found.extend(files),
        Err(OpenError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    Ok(found)
}
