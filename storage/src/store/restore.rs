//! Putting a backup in the place of a store, in the store's own folder: that is often the root of a
//! volume, which cannot be renamed.
//!
//! The new pieces are made in `restore.partial`, which becomes `restore.ready` when all of them are
//! there and durable. That decides it: [`finish`], which opening calls too, moves each old piece
//! into `restore.ready/old` and the new one to its place. May not know: how anything is encoded.
//! Invariant: a store opens as the old one or as the new one.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::backup::link_or_copy;
use super::open::{failed, is_there, list, lock, open_slot_file};
use super::{Examination, Paths, Store};
use crate::sled_folder;
use crate::slot_file::sync_parent;
use crate::{OpenError, RestoreError};

/// What a restore may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RestoreOptions {
    /// Move a store that is there already into a folder within its own.
    pub replace: bool,
    /// Restore what is intact of a damaged backup. Its damaged files come along, so that opening
    /// the store moves them aside.
    pub allow_damaged: bool,
}

/// What a restore did.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Restored {
    /// What is in the store now.
    pub found: Examination,
    /// Where the store that was there before is now.
    pub replaced: Option<PathBuf>,
}

/// The pieces of a store.
const PIECES: [&str; 5] = ["sled", "slots", "series", "quarantine", "last-tick"];
/// What belongs to an old store only.
const REMAINS: [&str; 2] = ["sled.new", "sled.old"];

impl Paths {
    fn restoring(&self) -> PathBuf {
        self.dir.join("restore.partial")
    }

    /// A restore that is decided and not finished.
    pub(super) fn restored(&self) -> PathBuf {
        self.dir.join("restore.ready")
    }
}

impl Store {
    /// Puts the store of `backup`, another store's folder, into `dir`, which is created where it is
    /// missing; `scratch` is for reading the backup's database.
    ///
    /// # Errors
    /// When the backup is damaged and `options` do not allow that, `dir` is in use or, without
    /// `replace`, holds a store, or the system refuses. The store in `dir` is as before then; where
    /// a failure hits the last renames, the next opening completes them.
    pub fn restore(
        backup: &Path,
        dir: &Path,
        options: RestoreOptions,
        scratch: &Path,
    ) -> Result<Restored, RestoreError> {
        let from = Paths { dir: backup.to_owned() };
        let has_slots = options.allow_damaged && holds_something(&from.slots())?;
        if !has_slots && !holds_something(&complete(&from)?)? {
            return Err(RestoreError::NoStore { backup: backup.to_owned() });
        }
        let found = Self::examine(backup, scratch)?;
        // The pieces of a restore that was cut short are of two stores.
        let is_taken = options.allow_damaged && !is_there(&from.restored())?;
        if !found.problems.is_empty() && !is_taken {
            return Err(RestoreError::Damaged { backup: backup.to_owned(), problems: found.problems });
        }
        fs::create_dir_all(dir).map_err(|e| failed("create", dir, e))?;
        let paths = Paths { dir: dir.to_owned() };
        let _lock = lock(&paths)?;
        finish(&paths)?;
        let pieces: Vec<PathBuf> = PIECES.iter().chain(&REMAINS).map(|piece| dir.join(piece)).collect();
        if holds_any(&pieces)? && !options.replace {
            return Err(RestoreError::HoldsStore { dir: dir.to_owned() });
        }
        if let Err(error) = prepare(&from, &paths) {
            drop(remove(&paths.restoring())); // it may be what filled the volume
            return Err(error.into());
        }
        let replaced = finish(&paths)?;
        Ok(Restored { found, replaced })
    }
}

/// Whether a folder with something in it, or a file, is there.
fn holds_something(path: &Path) -> Result<bool, OpenError> {
    Ok(is_there(path)? && (!path.is_dir() || !list(path)?.is_empty()))
}

/// Whether one of them does.
fn holds_any(paths: &[PathBuf]) -> Result<bool, OpenError> {
    for path in paths {
        if holds_something(path)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Where the database of a store that is not open is.
fn complete(of: &Paths) -> Result<PathBuf, OpenError> {
    let sled = of.sled();
    sled_folder::complete(&sled).map_err(|e| failed("look for", &sled, e))
}

/// Copies the pieces; then it is decided.
fn prepare(from: &Paths, to: &Paths) -> Result<(), OpenError> {
    let partial = to.restoring();
    remove(&partial)?;
    let new = Paths { dir: partial.join("new") };
    // All pieces: an old one stays where none comes.
    let pieces = [new.sled(), new.slots(), new.snapshots(), new.quarantine()];
    for dir in [&partial, &new.dir, &partial.join("old")].into_iter().chain(&pieces) {
        fs::create_dir(dir).map_err(|e| failed("create", dir, e))?;
    }
    for path in list(&from.slots())?.into_iter().filter(|path| path.extension().is_some_and(|e| e == "slot")) {
        let to = new.slots().join(path.file_name().unwrap_or_default());
        match open_slot_file(&path)? {
            Ok(file) => drop(link_or_copy(&file, &to).map_err(|e| failed("copy a slot to", &to, e))?),
            Err(_) => copy_file(&path, &to)?, // allowed, as it was found before
        }
    }
    copy(&from.snapshots(), &new.snapshots())?;
    copy(&complete(from)?, &new.sled())?;
    let witness = from.witness();
    if is_there(&witness)? {
        copy_file(&witness, &new.witness())?;
    } else {
        File::create(new.witness()).map_err(|e| failed("create", &new.witness(), e))?;
    }
    sync_all(&partial).map_err(|e| failed("sync", &partial, e))?;
    let ready = to.restored();
    fs::rename(&partial, &ready).and_then(|()| sync_parent(&ready)).map_err(|e| failed("rename to", &ready, e))
}

fn copy(from: &Path, to: &Path) -> Result<(), OpenError> {
    if is_there(from)? { sled_folder::copy(from, to).map_err(|e| failed("copy", from, e)) } else { Ok(()) }
}

/// The copy has the mode of a new file.
fn copy_file(from: &Path, to: &Path) -> Result<(), OpenError> {
    let copied = File::open(from).and_then(|mut from| io::copy(&mut from, &mut File::create(to)?));
    copied.map(drop).map_err(|e| failed("copy", from, e))
}

fn sync_all(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            sync_all(&entry?.path())?;
        }
    }
    File::open(path)?.sync_all()
}

fn remove(dir: &Path) -> Result<(), OpenError> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed("remove", dir, e)),
        _ => Ok(()),
    }
}

/// Completes a restore that is decided; where the store from before is then, if there was one.
pub(super) fn finish(paths: &Paths) -> Result<Option<PathBuf>, OpenError> {
    let ready = paths.restored();
    if !is_there(&ready)? {
        return Ok(None);
    }
    let (new, old) = (ready.join("new"), ready.join("old"));
    for piece in REMAINS.iter().map(PathBuf::from).chain(set_aside(paths)?) {
        swap(&paths.dir.join(&piece), &old.join(&piece), None)?;
    }
    for piece in PIECES {
        let coming = new.join(piece);
        if is_there(&coming)? {
            swap(&paths.dir.join(piece), &old.join(piece), Some(&coming))?;
        }
    }
    // Gone where a crash came between the last steps.
    let was_there = is_there(&old)? && holds_any(&list(&old)?)?;
    let replaced = was_there.then(|| free_name(&paths.dir));
    if let Some(replaced) = &replaced {
        sync_dir(&old)?;
        fs::rename(&old, replaced).map_err(|e| failed("rename the replaced store to", replaced, e))?;
    }
    sync_dir(&paths.dir)?;
    remove(&ready)?;
    sync_dir(&paths.dir)?;
    Ok(replaced)
}

/// Moves what is at `place` to `old`, and what is coming to `place`.
fn swap(place: &Path, old: &Path, coming: Option<&Path>) -> Result<(), OpenError> {
    if is_there(place)? {
        fs::rename(place, old).map_err(|e| failed("move aside", place, e))?;
    }
    match coming {
        Some(coming) => fs::rename(coming, place).map_err(|e| failed("move a restored piece to", place, e)),
        None => Ok(()),
    }
}

/// Names of sled parts that were damaged.
fn set_aside(paths: &Paths) -> Result<Vec<PathBuf>, OpenError> {
    let names = list(&paths.dir)?.into_iter().filter_map(|path| path.file_name().map(PathBuf::from));
    Ok(names.filter(|name| name.to_string_lossy().starts_with("sled.damaged")).collect())
}

fn free_name(dir: &Path) -> PathBuf {
    let name = |n: u32| dir.join(format!("replaced-{n}"));
    (1..1000).map(name).find(|path| !path.exists()).unwrap_or_else(|| name(1000))
}

fn sync_dir(dir: &Path) -> Result<(), OpenError> {
    File::open(dir).and_then(|file| file.sync_all()).map_err(|e| failed("sync", dir, e))
}
