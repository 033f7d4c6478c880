//! The folder of the embedded database: what it takes, reading and copying it, and swapping one for another.
//!
//! May not know: sled's interface. Invariant: a swap that a crash interrupted leaves the old or the new one.

use std::fs::{self, File};
use std::io::{self, BufReader, ErrorKind};
use std::path::{Path, PathBuf};

use crate::slot_file::sync_parent;

/// Read at a time.
const BUFFER_BYTES: usize = 1 << 20;

/// Bytes of all files in the database's folder.
pub(crate) fn disk_bytes(dir: &Path) -> u64 {
    let sizes = |entries: fs::ReadDir| entries.flatten().filter_map(|e| e.metadata().ok()).map(|m| m.len()).sum();
    fs::read_dir(dir).map_or(0, sizes)
}

/// Removes what sled was writing when it was killed: it would take half a snapshot for the newest
/// one, and the database for damaged. The snapshot before it is there until a new one is complete.
pub(crate) fn remove_unfinished(dir: &Path) -> io::Result<()> {
    let unfinished = |path: &PathBuf| path.extension().is_some_and(|e| e == "generating");
    paths_in(dir)?.iter().filter(|path| unfinished(path)).try_for_each(fs::remove_file)
}

/// What is in a folder; nothing where there is none.
fn paths_in(dir: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(dir) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        entries => entries?.map(|entry| Ok(entry?.path())).collect(),
    }
}

/// Reads the database's files, so that a device that fails to tells us: sled takes what it cannot read for the end of its
/// log, and writes over what comes after. What was just read the system has in memory, as far as it has room.
pub(crate) fn read_ahead(dir: &Path) -> io::Result<()> {
    for path in paths_in(dir)? {
        let file = File::open(path)?;
        if file.metadata()?.is_file() {
            io::copy(&mut BufReader::with_capacity(BUFFER_BYTES, file), &mut io::sink())?;
        }
    }
    Ok(())
}

/// Completes or undoes a swap that a crash interrupted: the new database counts once the old one
/// has made room for it.
pub(crate) fn finish_swap(dir: &Path) -> io::Result<()> {
    let complete = complete(dir)?;
    if complete != dir {
        fs::rename(complete, dir)?;
        sync_parent(dir)?;
    }
    remove(&beside(dir, "new"))?;
    remove(&beside(dir, "old"))
}

/// Where the database that counts is when a swap was interrupted.
pub(crate) fn complete(dir: &Path) -> io::Result<PathBuf> {
    for place in [dir.to_owned(), beside(dir, "new"), beside(dir, "old")] {
        if place.try_exists()? {
            return Ok(place);
        }
    }
    Ok(dir.to_owned())
}

/// Copies a closed database's files, which belong to this process then and can be written.
pub(crate) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            io::copy(&mut File::open(entry.path())?, &mut File::create(target)?)?;
        }
    }
    Ok(())
}

pub(crate) fn beside(dir: &Path, extension: &str) -> PathBuf {
    dir.with_extension(extension)
}

pub(crate) fn remove(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir).and_then(|d| d.sync_all())
}
