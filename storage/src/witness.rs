//! The number of the last durable tick, in a file beside sled: damage can make sled fall back to
//! an older state without a word, and then nothing inside it can tell.
//!
//! May not know: sled. Invariant: the number is never ahead of what is durable. It is not synced
//! itself: after a power cut it may be behind, which hides a loss but never invents one.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The open file.
#[derive(Debug)]
pub(crate) struct Witness {
    file: File,
    name: String,
}

impl Witness {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let mut options = File::options();
        let file = options.read(true).write(true).create(true).truncate(false).open(path)?;
        let name = path.display().to_string();
        Ok(Self { file, name })
    }

    /// The last tick that was noted; `None` when there is none or it cannot be read.
    pub(crate) fn last_tick(&self) -> Option<u64> {
        let (mut tick, mut crc) = ([0; 8], [0; 4]);
        self.file.read_exact_at(&mut tick, 0).ok()?;
        self.file.read_exact_at(&mut crc, 8).ok()?;
        (crc32fast::hash(&tick) == u32::from_le_bytes(crc)).then(|| u64::from_le_bytes(tick))
    }

    /// Notes a durable tick. A failure only means that a later loss might not be noticed.
    pub(crate) fn note(&self, tick: u64) {
        let tick = tick.to_le_bytes();
        let mut bytes = tick.to_vec();
        bytes.extend(crc32fast::hash(&tick).to_le_bytes());
        if let Err(error) = self.file.write_all_at(&bytes, 0) {
            tracing::warn!(file = self.name, %error, "cannot note the last tick");
        }
    }
}
