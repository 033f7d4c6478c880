//! Opening, first part: the lock, the sealed slots and the names they need. From then on questions
//! are answered; [`super::load`] does the rest.
//!
//! Invariant: what is damaged is moved aside and reported, never served and never deleted; what is
//! intact is served.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use super::early::Early;
use super::maintain::{absent_is_fine, quarantine};
use super::{Broken, Paths, Progress, Shared, Store, StoreOptions, restore};
use crate::catalog::Catalog;
use crate::codec::DecodeError;
use crate::error::is_of_the_device;
use crate::slot::Slot;
use crate::slot_file::{ReadError, SlotFile, sync_parent};
use crate::snapshot;
use crate::table::{SeriesRecord, SeriesTable};
use crate::{OpenError, Timestamp};

impl Store {
    /// Opens the store in `dir`, which is created when it is missing, and reads all of it; only one
    /// at a time can have it open. Damage does not keep it from opening: [`Store::status`] tells it.
    ///
    /// # Errors
    /// Those of [`Store::open_sealed`] and [`Store::load`].
    pub fn open(dir: &Path, options: StoreOptions, now: Timestamp) -> Result<Self, OpenError> {
        let store = Self::open_sealed(dir, options)?;
        store.load(now)?;
        Ok(store)
    }

    /// Opens the store as [`Store::open`] does, but reads its sealed slots only, which takes a
    /// fraction of the time: answers lack what the open slots hold, the last minutes, until
    /// [`Store::load`] has read them.
    ///
    /// # Errors
    /// When the folder is in use, its format is newer than this program, or the system refuses.
    pub fn open_sealed(dir: &Path, options: StoreOptions) -> Result<Self, OpenError> {
        let paths = Paths { dir: dir.to_owned() };
        let lock = prepare(&paths)?;
        let mut opening = Opening::new(paths.clone());
        let catalog = opening.read_slots()?;
        let table = opening.read_names(&catalog)?;
        let store = Self {
            paths,
            options,
            table: RwLock::new(table),
            early: RwLock::new(Early::default()),
            is_loaded: AtomicBool::new(false),
            shared: RwLock::new(Shared { catalog: Arc::new(catalog), ..Shared::default() }),
            progress: Mutex::new(Progress { opening, writer: None }),
            holds: Arc::default(),
            problems: Mutex::default(),
            cache: Mutex::default(),
            _lock: lock,
        };
        store.report_found(&mut store.progress().opening);
        Ok(store)
    }

    pub(super) fn report_found(&self, opening: &mut Opening) {
        for problem in opening.problems.drain(..) {
            self.report(problem);
        }
    }
}

/// Creates the folder, takes its lock, completes what was cut short and creates the rest; durably.
fn prepare(paths: &Paths) -> Result<File, OpenError> {
    create(&paths.dir)?;
    let lock = lock(paths)?;
    restore::finish(paths)?;
    [paths.slots(), paths.snapshots(), paths.quarantine()].iter().try_for_each(|dir| create(dir))?;
    Ok(lock)
}

fn create(dir: &Path) -> Result<(), OpenError> {
    if is_there(dir)? {
        return Ok(());
    }
    fs::create_dir_all(dir).map_err(|e| failed("create", dir, e))?;
    sync_parent(dir).map_err(|e| failed("sync the folder of", dir, e))
}

/// Takes the lock of a folder that is there.
pub(super) fn lock(paths: &Paths) -> Result<File, OpenError> {
    let path = paths.lock();
    let lock = File::options().create(true).truncate(false).write(true).open(&path);
    take(paths, lock.map_err(|e| failed("open", &path, e))?)
}

/// As [`lock`], for looking only: writes nothing. A folder without a lock's file was never opened,
/// as a backup that was not restored.
pub(super) fn lock_to_look(paths: &Paths) -> Result<Option<File>, OpenError> {
    let path = paths.lock();
    // Some network file systems lock only what can be written.
    match File::options().write(true).open(&path).or_else(|_| File::open(&path)) {
        Ok(lock) => take(paths, lock).map(Some),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(failed("open", &path, e)),
    }
}

fn take(paths: &Paths, lock: File) -> Result<File, OpenError> {
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse { dir: paths.dir.clone() }),
        Err(TryLockError::Error(e)) => Err(failed("lock", &paths.lock(), e)),
    }
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

/// How long a device may fail to read something, from the first of the tries in a row in which it did, before the store goes on
/// without it. Ticks cannot be stored meanwhile: who appends them keeps them, as far as there is room.
const PATIENCE: Duration = Duration::from_mins(10);

/// The work of opening, and what it found wrong.
#[derive(Debug)]
pub(super) struct Opening {
    pub(super) paths: Paths,
    pub(super) problems: Vec<String>,
    /// Names of damaged slot files, which were told.
    pub(super) told: BTreeSet<OsString>,
    /// Why the sled part will be rewritten.
    pub(super) broken: Option<Broken>,
    /// Files of slots that a longer one took the place of.
    pub(super) superseded: Vec<Arc<SlotFile>>,
    /// Roll-ups that are damaged, or could not be read, whose inputs, or some of them, are still there.
    pub(super) doubtful: Vec<Arc<SlotFile>>,
    /// Slot files that the device failed to read before loading.
    pub(super) unread: Vec<PathBuf>,
    /// When loading was last tried, and whether the device failed to read something then.
    loading_at: Option<Timestamp>,
    device_failed: bool,
    /// The first of the tries in a row in which it did.
    failing_since: Option<Timestamp>,
}

impl Opening {
    pub(super) fn new(paths: Paths) -> Self {
        Self {
            paths,
            problems: Vec::new(),
            told: BTreeSet::new(),
            broken: None,
            superseded: Vec::new(),
            doubtful: Vec::new(),
            unread: Vec::new(),
            loading_at: None,
            device_failed: false,
            failing_since: None,
        }
    }

    /// From here on what cannot be read is an error.
    pub(super) fn begin_loading(&mut self, now: Timestamp) {
        self.loading_at = Some(now);
        self.broken = self.broken.filter(|broken| *broken == Broken::Failed); // damage is found again
        if !std::mem::take(&mut self.device_failed) {
            self.failing_since = None;
        }
    }

    /// What reading a file gave, or its damage as [`or_damage`] tells it. A device that fails to read keeps nothing else
    /// from being served before loading, which asks again (`None`); loading fails then for ten minutes and is tried again,
    /// and after that the file counts as damaged.
    pub(super) fn read<T>(
        &mut self,
        path: &Path,
        read: Result<T, ReadError>,
    ) -> Result<Option<Result<T, String>>, OpenError> {
        match read {
            Err(ReadError::Io(e)) if is_of_the_device(&e) => {
                let Some(now) = self.loading_at else { return Ok(None) };
                if self.is_patient(now) { Err(failed("read", path, e)) } else { Ok(Some(Err(e.to_string()))) }
            }
            read => Ok(Some(or_damage(path, read)?.map_err(|damage| damage.to_string()))),
        }
    }

    /// Whether what a device fails to read is left for a later call.
    pub(super) fn is_patient(&mut self, now: Timestamp) -> bool {
        self.device_failed = true;
        now < *self.failing_since.get_or_insert(now) + PATIENCE
    }

    /// Opens all slot files; what cannot be read is moved aside.
    fn read_slots(&mut self) -> Result<Catalog, OpenError> {
        let mut files = Vec::new();
        for path in list(&self.paths.slots())? {
            match path.extension().and_then(|e| e.to_str()) {
                Some("tmp") => fs::remove_file(&path).map_err(|e| failed("remove", &path, e))?,
                Some("slot") => files.extend(self.read_slot(&path)?),
                _ => {}
            }
        }
        Ok(self.settle(&Catalog::of(files)))
    }

    fn read_slot(&mut self, path: &Path) -> Result<Option<SlotFile>, OpenError> {
        match self.read(path, SlotFile::open(path))? {
            Some(Ok(file)) => return Ok(Some(file)),
            Some(Err(error)) => self.quarantine(path, &error)?,
            None => self.unread.push(path.to_owned()),
        }
        Ok(None)
    }

    /// The catalog with the files that could not be read before loading.
    pub(super) fn read_unread(&mut self, catalog: &Catalog) -> Result<Catalog, OpenError> {
        let mut catalog = catalog.clone();
        for path in self.unread.clone() {
            if !is_there(&path)? {
                continue; // a try before found it damaged
            }
            let file = self.read_slot(&path)?;
            catalog = catalog.changed(file.map(Arc::new), &[]);
        }
        self.unread.clear();
        Ok(self.settle(&catalog))
    }

    pub(super) fn quarantine(&mut self, path: &Path, error: &str) -> Result<(), OpenError> {
        let dir = self.paths.quarantine();
        quarantine(path, &dir).or_else(absent_is_fine).map_err(|e| failed("move aside", path, e))?;
        self.told.extend(path.file_name().map(OsString::from));
        let (path, dir) = (path.display(), dir.display());
        self.problems.push(format!("{path}: {error}; its samples are lost, the file was moved to {dir}"));
        Ok(())
    }

    /// Where a crash left a roll-up and its inputs, the roll-up is served if all of it is right, and
    /// else its inputs; what becomes of them is decided when the manifest is known.
    fn settle(&mut self, catalog: &Catalog) -> Catalog {
        for file in catalog.superseding() {
            if check_slot_file(&file).is_err() {
                self.doubtful.push(file);
            }
        }
        let doubtful: Vec<Slot> = self.doubtful.iter().map(|file| file.slot()).collect();
        let catalog = catalog.changed(None, &doubtful);
        let superseded = catalog.superseded();
        self.superseded.extend(superseded.iter().filter_map(|slot| catalog.get(*slot).cloned()));
        catalog.changed(None, &superseded)
    }

    /// The names of all series of sealed slots, as far as the files tell them.
    fn read_names(&mut self, catalog: &Catalog) -> Result<SeriesTable, OpenError> {
        let mut all = Vec::new();
        let dir = self.paths.snapshots();
        snapshot::remove_unfinished(&dir).map_err(|e| failed("tidy up", &dir, e))?;
        let snapshots = snapshot::list(&dir).map_err(|e| failed("read", &dir, e))?;
        for path in snapshots.values().rev() {
            // Loading tells damage.
            if let Some(Ok((records, damage))) = self.read(path, snapshot::read(path))? {
                all.extend(records);
                if damage.is_none() {
                    break;
                }
            }
        }
        all.extend(self.names_in_slots(catalog)?);
        Ok(table_of(all))
    }
}

/// The table of some records in any order.
pub(super) fn table_of(mut records: Vec<SeriesRecord>) -> SeriesTable {
    records.sort_by_key(|record| record.id);
    let mut table = SeriesTable::default();
    for record in records {
        table.restore(record);
    }
    table
}

/// A slot file, or what is damaged about it. Nothing is known of a file that the system does not
/// let us read.
pub(super) fn open_slot_file(path: &Path) -> Result<Result<SlotFile, DecodeError>, OpenError> {
    or_damage(path, SlotFile::open(path))
}

/// What reading a file gave, or its damage: neither a refusal of the system nor a newer format is.
pub(super) fn or_damage<T>(path: &Path, read: Result<T, ReadError>) -> Result<Result<T, DecodeError>, OpenError> {
    match read {
        Ok(read) => Ok(Ok(read)),
        Err(ReadError::Io(e)) => Err(failed("read", path, e)),
        Err(ReadError::Damaged(e @ DecodeError::Newer { .. })) => Err(unreadable(path, &e)),
        Err(ReadError::Damaged(damage)) => Ok(Err(damage)),
    }
}

/// Whether something has this name; a device that fails to tell does not say no.
pub(super) fn is_there(path: &Path) -> Result<bool, OpenError> {
    path.try_exists().map_err(|e| failed("look for", path, e))
}

pub(super) fn list(dir: &Path) -> Result<Vec<PathBuf>, OpenError> {
    let entries = fs::read_dir(dir).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let entries = entries.map_err(|e| failed("read", dir, e))?;
    let mut paths: Vec<PathBuf> = entries.iter().map(fs::DirEntry::path).collect();
    paths.sort();
    Ok(paths)
}

/// Reads all of a file: whether it is whole.
pub(super) fn check_slot_file(file: &SlotFile) -> Result<(), ReadError> {
    if file.has_damage() {
        return Err(DecodeError::Checksum("a block").into()); // found by a question meanwhile
    }
    (0..file.block_count()).try_for_each(|i| file.block(i).map(drop))?;
    file.names().map(drop)
}
