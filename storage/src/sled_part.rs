//! The only file that touches sled: durable puts and removes of small values, and a guarded open.
//!
//! May not know: what the records mean. Invariant: when [`SledPart::apply`] returns `Ok`, the
//! change is on the disk; no panic of sled leaves this file.

use std::any::Any;
use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::error::is_of_the_device;
use crate::sled_folder::{beside, read_ahead, remove, remove_unfinished, sync_dir};
use crate::slot_file::sync_parent;

/// A key and its value.
pub(crate) type Pair = (Vec<u8>, Vec<u8>);

/// sled's page cache. Little is read after the start.
const CACHE_BYTES: u64 = 16 << 20;

/// How often each written record is read; more lets no more go.
const READS_TO_LET_GO: usize = 8;

/// Records that go in one batch where they need not go together.
const REMOVED_TOGETHER: usize = 64;

/// A damaged database can send sled into an endless loop; opening a sound one of this size takes
/// seconds at most.
const OPEN_DEADLINE: Duration = Duration::from_mins(2);

/// How long sled's threads may take to let go of a closed database.
const CLOSE_DEADLINE: Duration = Duration::from_secs(10);
const RETRY_EVERY: Duration = Duration::from_millis(1);

/// How long a flush may take before sled is asked once more.
const FLUSH_PATIENCE: Duration = Duration::from_secs(1);

/// How long a device may take to read the database's files.
const READ_DEADLINE: Duration = Duration::from_mins(2);

/// What sled said, or how it failed, as text: nothing can be decided from it but giving up.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(crate) struct PartError {
    text: String,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// The system refused: a full or read-only disk, no rights, no file handles.
    Refused,
    /// The device failed to read or write.
    Device,
    /// The device did not read in time.
    Slow,
    /// sled does not understand what is there, or what it could not read.
    Unreadable,
    /// sled broke down.
    Other,
}

impl PartError {
    /// There is no open database: rewriting it failed before.
    pub(crate) fn closed() -> Self {
        text("the database is closed, because rewriting it failed")
    }

    /// Whether this says nothing about what is on the disk, so that the same database may open
    /// another time.
    pub(crate) fn is_refusal(&self) -> bool {
        self.kind == Kind::Refused
    }

    /// Whether the device failed.
    pub(crate) fn is_of_the_device(&self) -> bool {
        matches!(self.kind, Kind::Device | Kind::Slow)
    }

    /// Whether trying at once may help: sled takes some reads that failed for damage.
    pub(crate) fn may_be_of_the_device(&self) -> bool {
        matches!(self.kind, Kind::Device | Kind::Unreadable)
    }
}

impl From<io::Error> for PartError {
    /// What sled itself finds wanting has no error number of the system.
    fn from(error: io::Error) -> Self {
        let kind = match error.raw_os_error() {
            _ if is_of_the_device(&error) => Kind::Device,
            Some(_) => Kind::Refused,
            None => Kind::Unreadable,
        };
        Self { text: error.to_string(), kind }
    }
}

impl From<sled::Error> for PartError {
    fn from(error: sled::Error) -> Self {
        match error {
            sled::Error::Io(error) => error.into(),
            other => Self { text: other.to_string(), kind: Kind::Unreadable },
        }
    }
}

/// The open database.
#[derive(Debug)]
pub(crate) struct SledPart {
    db: Option<sled::Db>, // always there but in `drop`
    file: File,
}

impl SledPart {
    /// Opens or creates the database in `dir` and reads everything in it.
    pub(crate) fn open(dir: &Path) -> Result<(Self, Vec<Pair>), PartError> {
        let dir = dir.to_owned();
        let files = dir.clone();
        let late = PartError { text: "its device did not read it within two minutes".to_owned(), kind: Kind::Slow };
        on_guarded_thread((READ_DEADLINE, late), move || Ok(read_ahead(&files)?))?;
        on_guarded_thread((OPEN_DEADLINE, text("sled did not open within two minutes")), move || {
            let created = !dir.join("db").exists();
            let config = sled::Config::new().path(&dir).cache_capacity(CACHE_BYTES).flush_every_ms(None);
            remove_unfinished(&dir)?;
            let db = open_when_free(&config)?;
            let mut pairs = Vec::new();
            for pair in db.iter() {
                let (key, value) = pair?;
                pairs.push((key.to_vec(), value.to_vec()));
            }
            let file = File::options().write(true).open(dir.join("db"))?;
            let part = Self { db: Some(db), file };
            if created {
                part.sync_new(&dir)?;
            }
            Ok((part, pairs))
        })
    }

    /// Makes a new database's files and their names durable.
    fn sync_new(&self, dir: &Path) -> Result<(), PartError> {
        self.sync()?;
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            File::open(path).and_then(|f| f.sync_all())?;
        }
        Ok(sync_dir(dir)?)
    }

    /// Applies all changes at once; they are durable when it returns.
    pub(crate) fn apply(&self, puts: Vec<Pair>, removes: Vec<Vec<u8>>) -> Result<(), PartError> {
        let keys: Vec<Vec<u8>> = puts.iter().map(|(key, _)| key.clone()).collect();
        self.apply_lazily(puts, removes)?;
        self.sync()?;
        self.let_go(&keys)
    }

    /// sled drops pages from its cache only once it has counted 64 accesses in one of 256 shards. What is written is
    /// hardly ever read, so that it would keep 45 MB and more; with these reads it keeps 20.
    fn let_go(&self, keys: &[Vec<u8>]) -> Result<(), PartError> {
        let reads = keys.iter().cycle().take(keys.len() * READS_TO_LET_GO);
        self.guarded(|db| Ok(reads.clone().try_for_each(|key| db.get(key).map(drop))?))
    }

    /// Applies all changes at once; they become durable with the next [`SledPart::apply`].
    pub(crate) fn apply_lazily(&self, puts: Vec<Pair>, removes: Vec<Vec<u8>>) -> Result<(), PartError> {
        let mut batch = sled::Batch::default();
        for (key, value) in puts {
            batch.insert(key, value);
        }
        for key in removes {
            batch.remove(key);
        }
        self.guarded(|db| Ok(db.apply_batch(batch)?))
    }

    /// Removes records, not at once: what is left after a crash must be known for leftovers. It becomes durable with the
    /// next [`SledPart::apply`]. sled keeps the pages that a batch changed until after it: one of a slot's frames takes
    /// half a kilobyte of memory for each of 300,000 series.
    pub(crate) fn remove_lazily(&self, keys: &[Vec<u8>]) -> Result<(), PartError> {
        keys.chunks(REMOVED_TOGETHER).try_for_each(|keys| self.apply_lazily(Vec::new(), keys.to_vec()))
    }

    /// sled's flush hands the bytes to the kernel but does not wait for the disk; we do.
    fn sync(&self) -> Result<(), PartError> {
        self.guarded(|db| Ok(flush(db)?))?;
        Ok(self.file.sync_data()?)
    }

    fn guarded<T>(&self, work: impl FnOnce(&sled::Db) -> Result<T, PartError>) -> Result<T, PartError> {
        let db = self.db.as_ref().ok_or_else(|| text("the database is closed"))?;
        catch_unwind(AssertUnwindSafe(|| work(db))).unwrap_or_else(|panic| Err(panicked(&*panic)))
    }
}

/// A thread of sled can note that a write failed without waking who waits for it, and a flush then
/// never returns. A flush that begins after the error wakes all; one that began before waits too.
fn flush(db: &sled::Db) -> Result<(), sled::Error> {
    let (done, is_done) = mpsc::channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            while is_done.recv_timeout(FLUSH_PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
                scope.spawn(|| drop(db.flush())); // the first one tells
            }
        });
        let flushed = db.flush();
        drop(done);
        flushed.map(drop)
    })
}

impl Drop for SledPart {
    /// sled's own threads can hold the database, and write to its folder, for a moment after it
    /// was dropped. We return when they have let go, so that it can be opened again or moved.
    fn drop(&mut self) {
        let db = self.db.take();
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(db))) {
            tracing::error!(error = %panicked(&*panic), "sled panicked while it was closed");
        }
        let until = Instant::now() + CLOSE_DEADLINE;
        while self.file.try_lock().is_err() && Instant::now() < until {
            thread::sleep(RETRY_EVERY);
        }
    }
}

/// Opens the database, waiting for an earlier instance in this process to let go of it: the
/// store's own lock says that no other process has it.
fn open_when_free(config: &sled::Config) -> Result<sled::Db, PartError> {
    let until = Instant::now() + CLOSE_DEADLINE;
    loop {
        match config.open() {
            Err(e) if is_locked(&e) && Instant::now() < until => thread::sleep(RETRY_EVERY),
            other => return Ok(other?),
        }
    }
}

/// sled 0.34 gives this error no kind of its own.
fn is_locked(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(e) if e.to_string().starts_with("could not acquire lock"))
}

/// Swaps the database in `dir` for one that holds `pairs`. The old one is removed, or kept as
/// `keep_old_as`, where it goes at once: what is removed later is never one to keep.
///
/// A crash at any point leaves the old or the new one to [`crate::sled_folder::finish_swap`].
pub(crate) fn rewrite(dir: &Path, pairs: Vec<Pair>, keep_old_as: Option<&Path>) -> Result<SledPart, PartError> {
    let (new, old) = (beside(dir, "new"), beside(dir, "old"));
    remove(&new)?;
    remove(&old)?;
    create(&new, pairs)?;
    if dir.try_exists()? {
        fs::rename(dir, keep_old_as.unwrap_or(&old))?;
    }
    fs::rename(&new, dir)?;
    sync_parent(dir)?;
    remove(&old)?;
    SledPart::open(dir).map(|(part, _)| part)
}

/// Makes a database that holds `pairs`, and leaves it closed.
pub(crate) fn create(dir: &Path, pairs: Vec<Pair>) -> Result<(), PartError> {
    let (part, _) = SledPart::open(dir)?;
    part.apply(pairs, Vec::new())?;
    drop(part);
    Ok(sync_dir(dir)?)
}

/// Runs `work` where neither a panic nor an endless loop reaches the caller. A thread that misses
/// the deadline is left behind.
fn on_guarded_thread<T: Send + 'static>(
    (deadline, late): (Duration, PartError),
    work: impl FnOnce() -> Result<T, PartError> + Send + 'static,
) -> Result<T, PartError> {
    let (send, receive) = mpsc::channel();
    let guarded = move || {
        let result = catch_unwind(AssertUnwindSafe(work));
        drop(send.send(result)); // nobody listens any more after the deadline
    };
    let builder = thread::Builder::new().name("sled-open".to_owned());
    builder.spawn(guarded)?;
    match receive.recv_timeout(deadline) {
        Ok(Ok(result)) => result,
        Ok(Err(panic)) => Err(panicked(&*panic)),
        Err(_) => Err(late),
    }
}

fn panicked(panic: &(dyn Any + Send)) -> PartError {
    let message = panic.downcast_ref::<String>().map(String::as_str);
    let message = message.or_else(|| panic.downcast_ref::<&str>().copied());
    text(format!("sled panicked: {}", message.unwrap_or("no message")))
}

#[allow(clippy::needless_pass_by_value)] // so that it fits `map_err`
fn text(error: impl ToString) -> PartError {
    PartError { text: error.to_string(), kind: Kind::Other }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::sled_folder::{complete, finish_swap};

    fn pairs(value: &[u8]) -> Vec<Pair> {
        vec![(b"k".to_vec(), value.to_vec())]
    }

    fn value_in(dir: &Path) -> Vec<u8> {
        SledPart::open(dir).unwrap().1.remove(0).1
    }

    #[test]
    fn a_database_to_keep_survives_a_swap_that_fails_or_is_cut_short_at_any_step() {
        let root = tempfile::tempdir().unwrap();
        let (dir, kept) = (root.path().join("sled"), root.path().join("sled.damaged-1"));
        create(&dir, pairs(b"damaged")).unwrap();
        // Its name cannot be given.
        rewrite(&dir, pairs(b"new"), Some(&root.path().join("none/there"))).unwrap_err();
        finish_swap(&dir).unwrap();
        assert_eq!(value_in(&dir), b"damaged");
        // Cut short when it has its name, and the new one has not.
        create(&dir.with_extension("new"), pairs(b"new")).unwrap();
        fs::rename(&dir, &kept).unwrap();
        assert_eq!(complete(&dir).unwrap(), dir.with_extension("new"));
        finish_swap(&dir).unwrap();
        assert_eq!((value_in(&dir), value_in(&kept)), (b"new".to_vec(), b"damaged".to_vec()));
        assert!(!dir.with_extension("new").exists());
    }
}
