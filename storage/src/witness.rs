//! The number of the last durable tick, in a file beside sled: damage can make sled fall back to
//! an older state without a word, and then nothing inside it can tell.
//!
//! May not know: sled. Invariant: the number is never ahead of what is durable. Only the first one
//! after an opening is synced, so that a file without a number is damaged; later ones are written
//! over it, and after a power cut one may be behind, which hides a loss but never invents one.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::slot_file::sync_parent;

/// The open file.
#[derive(Debug)]
pub(crate) struct Witness {
    file: File,
    path: PathBuf,
    /// A number in it is on the disk; one that was there at the opening may not be.
    is_durable: bool,
}

impl Witness {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let mut options = File::options();
        let file = options.read(true).write(true).create(true).truncate(false).open(path)?;
        Ok(Self { file, path: path.to_owned(), is_durable: false })
    }

    /// Opens a file that is there, for reading only.
    pub(crate) fn look(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::open(path)?, path: path.to_owned(), is_durable: false })
    }

    /// Whether a number was once there, after `ticks` of them, and `last_tick` could not be told.
    pub(crate) fn is_damaged(&self, last_tick: Option<u64>, ticks: u64) -> bool {
        let is_empty = self.file.metadata().is_ok_and(|file| file.len() == 0);
        last_tick.is_none() && (!is_empty || ticks > 1)
    }

    /// The last tick that was noted; `None` when there is none or it is damaged.
    pub(crate) fn last_tick(&self) -> io::Result<Option<u64>> {
        let (mut tick, mut crc) = ([0; 8], [0; 4]);
        let read = self.file.read_exact_at(&mut tick, 0).and_then(|()| self.file.read_exact_at(&mut crc, 8));
        match read {
            Ok(()) if crc32fast::hash(&tick) == u32::from_le_bytes(crc) => Ok(Some(u64::from_le_bytes(tick))),
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => Err(error),
            _ => Ok(None),
        }
    }

    /// Notes a durable tick. A failure only means that a later loss might not be noticed.
    pub(crate) fn note(&mut self, tick: u64) {
        let tick = tick.to_le_bytes();
        let mut bytes = tick.to_vec();
        bytes.extend(crc32fast::hash(&tick).to_le_bytes());
        match self.file.write_all_at(&bytes, 0).and_then(|()| self.sync_first()) {
            Ok(()) => self.is_durable = true,
            Err(error) => tracing::warn!(file = %self.path.display(), %error, "cannot note the last tick"),
        }
    }

    fn sync_first(&self) -> io::Result<()> {
        if self.is_durable {
            return Ok(());
        }
        self.file.sync_all()?;
        sync_parent(&self.path)
    }
}
