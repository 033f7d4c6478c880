//! `optipod store`: looks at a store, copies it, and takes in what was exported or kept elsewhere.
//!
//! Where a recommender has the folder open it is asked over the socket there, else the folder is opened; which way is
//! told on stderr. May not know: how a store keeps anything.

mod backup;
mod examine;
mod export;
mod import;
mod row;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use crate::api::LiveStore;
use crate::config::{Flags, Settings};
use anyhow::Context as _;
use clap::{Args, Subcommand};
use export::Format;
use optipod_storage::{OpenError, RestoreOptions, Store, StoreOptions, Timestamp};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Arguments of `optipod store`.
#[derive(Args, Debug)]
#[command(after_help = "Where a recommender has the folder open, verify, inspect, export and backup ask it over \
                        FOLDER/admin.sock, as the user that runs it; import and restore need it stopped. Each says on \
                        stderr which way it took.")]
pub struct StoreArgs {
    #[command(subcommand)]
    command: StoreCommand,
}

#[derive(Subcommand, Debug)]
enum StoreCommand {
    /// Read everything and tell what is damaged or missing; changes nothing. Exits 0 when all is there, 2 when damage was
    /// found, 1 otherwise
    Verify {
        /// The store's folder
        dir: PathBuf,
    },
    /// Tell what is in a store, file by file; changes nothing
    Inspect {
        /// The store's folder
        dir: PathBuf,
    },
    /// Print what each container used in each slot. Exits 2 when damage was met and left out
    Export {
        /// The store's folder
        dir: PathBuf,
        /// How it is written
        #[arg(long, value_enum, default_value_t = Format::Csv)]
        format: Format,
        /// Only this namespace
        #[arg(short, long)]
        namespace: Option<String>,
    },
    /// Take in an export, or samples kept elsewhere; slots that the store has stay as they are, so it can be repeated
    #[command(after_help = import::HELP)]
    Import {
        /// The store's folder; created where it is missing. No recommender may have it open
        dir: PathBuf,
        /// JSON lines or CSV; - reads the standard input
        file: PathBuf,
    },
    /// Copy a store to a new folder, also while it is written to. Exits 2 when damage is known, which the copy has too
    #[command(
        after_help = "On the store's own volume sealed slots are hard links: such a copy takes little space, and \
                            protects from mistakes but not from a failing disk. A backup is a store's folder."
    )]
    Backup {
        /// The store's folder
        dir: PathBuf,
        /// The new folder; it must be empty or not there
        target: PathBuf,
    },
    /// Verify a backup and put it in a store's place. Exits 2 when the backup is damaged, which changes nothing unless
    /// --allow-damaged is given
    Restore {
        /// The backup's folder
        backup: PathBuf,
        /// The store's folder. No recommender may have it open
        dir: PathBuf,
        /// Move a store that is there into a folder within it, instead of refusing
        #[arg(long)]
        replace: bool,
        /// Restore what is intact of a damaged backup; what is damaged is named and left out
        #[arg(long)]
        allow_damaged: bool,
    },
}

/// What a command exits with when it found damage.
const DAMAGED: u8 = 2;

/// Runs one of them.
pub async fn store(args: &StoreArgs, flags: &Flags) -> anyhow::Result<ExitCode> {
    let (mut out, mut notes) = (std::io::stdout(), std::io::stderr());
    match run(&args.command, flags, &mut out, &mut notes).await {
        Err(error) if nobody_reads_on(&error) => Ok(ExitCode::SUCCESS),
        done => done,
    }
}

async fn run(
    command: &StoreCommand,
    flags: &Flags,
    out: &mut impl Write,
    notes: &mut impl Write,
) -> anyhow::Result<ExitCode> {
    match command {
        StoreCommand::Verify { dir } => examine::verify(dir, out, notes).await,
        StoreCommand::Inspect { dir } => examine::inspect(dir, out, notes).await,
        StoreCommand::Export { dir, format, namespace } => {
            export::export(dir, *format, namespace.as_deref(), out, notes).await
        }
        StoreCommand::Import { dir, file } => import::import(dir, file, &options(flags)?, now(), out, notes),
        StoreCommand::Backup { dir, target } => backup::backup(dir, target, out, notes).await,
        StoreCommand::Restore { backup, dir, replace, allow_damaged } => {
            let options = RestoreOptions { replace: *replace, allow_damaged: *allow_damaged };
            backup::restore(backup, dir, options, out)
        }
    }
}

/// As in `optipod store export … | head`.
fn nobody_reads_on(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
}

/// The store as the recommender with these flags keeps it.
fn options(flags: &Flags) -> anyhow::Result<StoreOptions> {
    Ok(Settings::load(&Settings::default(), flags)?.store_options()?)
}

fn now() -> Timestamp {
    Timestamp(jiff::Timestamp::now().as_millisecond())
}

fn exit(is_whole: bool) -> ExitCode {
    if is_whole { ExitCode::SUCCESS } else { ExitCode::from(DAMAGED) }
}

/// Opening makes a store of any folder; what is only to be looked at must be one.
fn check_is_store(dir: &Path) -> anyhow::Result<()> {
    let found: std::io::Result<Vec<bool>> =
        ["slots", "sled", "restore.ready"].iter().map(|piece| dir.join(piece).try_exists()).collect();
    let found = found.with_context(|| format!("looking into {}; run this as the user that owns it", dir.display()))?;
    anyhow::ensure!(
        found.contains(&true),
        "there is no store in {}; name the folder given as --data-dir",
        dir.display()
    );
    Ok(())
}

/// What opening gave, or the recommender that has the store open; says which.
async fn or_live<T>(
    dir: &Path,
    opened: Result<T, OpenError>,
    notes: &mut impl Write,
) -> anyhow::Result<Result<T, LiveStore>> {
    match opened {
        Ok(opened) => {
            writeln!(notes, "no recommender has {} open: reading its files", dir.display())?;
            Ok(Ok(opened))
        }
        Err(OpenError::InUse { .. }) => {
            writeln!(notes, "{} is in use: asking the recommender that has it open", dir.display())?;
            Ok(Err(LiveStore::connect(dir).await?))
        }
        Err(error) => Err(error.into()),
    }
}

/// The open store, or the recommender that has it open.
async fn open(dir: &Path, notes: &mut impl Write) -> anyhow::Result<Result<Store, LiveStore>> {
    check_is_store(dir)?;
    or_live(dir, Store::open(dir, StoreOptions::default(), now()), notes).await
}

/// A folder of our own in the system's temporary one, for the copy of a database; gone when it is dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> anyhow::Result<Self> {
        let name = |n: u32| std::env::temp_dir().join(format!("optipod-store-{}-{n}", std::process::id()));
        let free = (0..100).map(name).find_map(|dir| match std::fs::create_dir(&dir) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => None,
            made => Some(made.map(|()| Self(dir))),
        });
        let made = free.context("too many folders named optipod-store-… are there; remove them")?;
        made.with_context(|| format!("making a folder in {}; set TMPDIR to one", std::env::temp_dir().display()))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0)); // the system tidies up its temporary folder
    }
}

fn iso(at: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(at.as_millis()).map_or_else(|_| at.to_string(), |at| at.to_string())
}
