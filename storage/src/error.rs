//! The errors of each operation: what was tried, on what, and what to do.

use std::io;
use std::path::PathBuf;

use crate::{SeriesKey, Timestamp};

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process, or another part of this one, has it open.
    #[error(
        "the store in {} is already open; stop the other process (one recommender a folder), or ask it over its API instead of opening the folder", .dir.display()
    )]
    InUse {
        /// The store's folder.
        dir: PathBuf,
    },
    /// A newer program wrote it.
    #[error(
        "{} has format version {found}, this program reads {supported}; run the OptiPod that wrote it, or give it an empty folder", .path.display()
    )]
    NewerFormat {
        /// What carries the version.
        path: PathBuf,
        /// The version found.
        found: u16,
        /// The version that this program reads.
        supported: u16,
    },
    /// The file system refused.
    #[error("cannot {action} {}: {source}; {}", .path.display(), advice(.source))]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The embedded database could not be created anew.
    #[error("cannot open the database in {}: {reason}; check that the volume is writable and not full", .dir.display())]
    Database {
        /// The database's folder.
        dir: PathBuf,
        /// What it said.
        reason: String,
    },
}

/// The system's number for a failed read or write of the device.
const EIO: i32 = 5;

/// Whether a device failed to read or write: trying once more may help, and nothing is known of what is there.
pub(crate) fn is_of_the_device(error: &io::Error) -> bool {
    error.raw_os_error() == Some(EIO)
}

/// What to do about a refusal of the file system.
fn advice(refusal: &io::Error) -> &'static str {
    match refusal.kind() {
        _ if is_of_the_device(refusal) => {
            "the device failed: see the kernel's log on the node, and move the volume to another device"
        }
        io::ErrorKind::PermissionDenied => {
            "the folder and all in it must belong to the user or group that this process runs as: chown it, or in a pod set runAsUser and fsGroup"
        }
        io::ErrorKind::ReadOnlyFilesystem => "the volume is mounted read-only; mount it writable",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "make room on the volume or enlarge it; it goes on by itself then"
        }
        _ => "check that the volume is mounted, writable and not full",
    }
}

/// Why a tick was not stored. None of its samples counts; the same samples may be appended again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// What was stored before could not all be read yet.
    #[error("ticks cannot be stored before the store is loaded: {source}; keep the samples and append them again")]
    NotLoaded {
        /// Why it could not be loaded.
        source: Box<OpenError>,
    },
    /// The frame could not be made durable.
    #[error(
        "cannot make a tick durable in {}: {reason}; keep the samples and append them again, and check that the volume is not full", .dir.display()
    )]
    NotDurable {
        /// The store's folder.
        dir: PathBuf,
        /// What was said.
        reason: String,
    },
}

/// Why stored slots could not be read or maintained.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The file system refused.
    #[error("cannot {action} {}: {source}; check the volume and try again", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The embedded database refused.
    #[error("cannot {action} in the database of {}: {reason}; check the volume and try again", .dir.display())]
    Database {
        /// What was tried.
        action: &'static str,
        /// The store's folder.
        dir: PathBuf,
        /// What it said.
        reason: String,
    },
    /// There may be an answer in the open slots, which were not read yet.
    #[error("the open slots of the store are still being read after its start; ask again in a second")]
    Loading,
    /// What was stored before could not all be read yet.
    #[error("the store cannot be maintained before it is loaded: {source}")]
    NotLoaded {
        /// Why it could not be loaded.
        source: Box<OpenError>,
    },
    /// A query's step is zero.
    #[error("cannot divide a range into steps of zero length; give a step of at least a millisecond")]
    ZeroStep,
}

/// Why rows or samples could not be taken in. Slots before the one in hand are in; the import can
/// be repeated, and keeps them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// It lies before what was taken in already.
    #[error("{at} lies before what was read already; sort the input by time")]
    NotSorted {
        /// The time of the row or sample.
        at: Timestamp,
    },
    /// A slot has two rows of one series.
    #[error("{key} stands twice in the slot at {start}; leave one of the rows out")]
    Repeated {
        /// The series.
        key: SeriesKey,
        /// When the slot starts.
        start: Timestamp,
    },
    /// A part of its name is no name.
    #[error("\"{key}\" is not namespace/kind/workload/container with 1 to 253 bytes each and no NUL; correct the row")]
    Key {
        /// The series.
        key: SeriesKey,
    },
    /// It says what cannot be.
    #[error("the row of {key} in the slot at {start} contradicts itself: {what}; export it again")]
    Contradiction {
        /// The series.
        key: SeriesKey,
        /// When the slot is said to start.
        start: Timestamp,
        /// What cannot be.
        what: &'static str,
    },
    /// The store could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a backup was not made. Nothing stands under its name then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// There is something already.
    #[error("{} is not empty; name a folder that is not there yet", .target.display())]
    NotEmpty {
        /// The folder.
        target: PathBuf,
    },
    /// It would be among the store's own files.
    #[error("{} is among the store's own files; name a folder beside them", .target.display())]
    WithinStore {
        /// The folder.
        target: PathBuf,
    },
    /// It is the root or ends in `..`.
    #[error("\"{}\" does not name a folder; name one that is not there yet", .target.display())]
    NoName {
        /// What was given.
        target: PathBuf,
    },
    /// The store could not be loaded, or another backup of that name is under way.
    #[error(transparent)]
    Open(OpenError),
    /// The file system refused.
    #[error("cannot {action} {}: {source}; check that the volume is writable and not full, and try again", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The embedded database could not be written.
    #[error("cannot write the database in {}: {reason}; check that the volume is writable and not full, and try again", .dir.display())]
    Database {
        /// Its folder.
        dir: PathBuf,
        /// What it said.
        reason: String,
    },
}

/// Why a backup was not restored. The store that is there already is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// There is nothing to restore.
    #[error("{} holds no store; name the folder of a backup", .backup.display())]
    NoStore {
        /// What was given as the backup.
        backup: PathBuf,
    },
    /// The backup is damaged.
    #[error(
        "the backup {} is damaged: {}; take another one, or restore what is intact of it with --allow-damaged",
        .backup.display(), .problems.join("; ")
    )]
    Damaged {
        /// Its folder.
        backup: PathBuf,
        /// What is wrong, one sentence each.
        problems: Vec<String>,
    },
    /// There is a store already.
    #[error("{} holds a store; name another folder, or move that store aside with --replace", .dir.display())]
    HoldsStore {
        /// The folder.
        dir: PathBuf,
    },
    /// A folder is in use, or the system refused.
    #[error(transparent)]
    Open(#[from] OpenError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_tells_what_to_do_about_it() {
        let numbers =
            [(13, "runAsUser and fsGroup"), (30, "mounted read-only"), (28, "make room"), (5, "kernel's log")];
        for (number, advice) in numbers.into_iter().chain([(2, "check that")]) {
            let (path, source) = (PathBuf::from("/data/lock"), io::Error::from_raw_os_error(number));
            let text = OpenError::Io { action: "open", path, source }.to_string();
            assert!(text.starts_with("cannot open /data/lock: ") && text.contains(advice), "{text}");
        }
    }
}
