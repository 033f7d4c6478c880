//! `torture write`, `verify`, `open` and `tell`: what the example and the tests run.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that talks to people and tests")]
#![allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]

pub mod check;
pub mod model;
mod open;
mod tell;
mod verify;
mod write;

use std::path::PathBuf;
use std::process::ExitCode;

use model::Model;
use optipod_storage::{Store, StoreOptions};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use std::alloc::System;
use std::sync::OnceLock;

/// Counts the bytes that are in use, which the resident memory does not tell.
#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Bytes in use, without those that sled allocates for its own metrics and never touches, which the
/// system does not hand out: some 22 MB in an empty store.
fn heap() -> usize {
    allocated().saturating_sub(*UNTOUCHED.get_or_init(|| 0))
}

fn allocated() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}

static UNTOUCHED: OnceLock<usize> = OnceLock::new();

/// What an open empty store has allocated and not in memory.
fn measure_untouched() -> Result<(), String> {
    let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
    let _store = Store::open(dir.path(), StoreOptions::default(), model::time_of(0)).map_err(|e| e.to_string())?;
    UNTOUCHED.get_or_init(|| allocated().saturating_sub(open::rss_kb("RssAnon:") as usize * 1024));
    Ok(())
}

const USAGE: &str = "\
torture write  DIR --containers N --seed S [--from T] [--ticks K | --until T] [--ask T] [MODEL]
torture verify DIR --seed S [--acked T] [--every K] [MODEL]
torture open   DIR --containers N --seed S --acked T [MODEL]
torture tell   DIR
MODEL: [--replicas R] [--stride K] [--dense T]

write appends a tick of simulated time after another, 15 s each, and prints `acked T` once tick T
is durable, then `heap N`, the bytes in use. It goes on after the last tick that it finds, for K
ticks or up to tick T. --ask T: from tick T on, it then asks for the last 24 hours of all
containers, and `heap` leaves out what sled never touches. --replicas R: pods of each container (one or two). --stride K leaves out all ticks but each K-th, up to --dense T.
verify checks every answer against the seed and prints one JSON line. It exits 0 when all is there
and right, 2 when damage was found and reported, 1 otherwise; --acked T: tick T must be there;
--every K looks at each K-th container only.
open measures how long a store whose last tick is T takes to give its first answer, and one that is
complete, and what that costs.
tell prints what any store answers.";

/// What was asked for.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The store's folder.
    pub dir: PathBuf,
    pub containers: u32,
    pub seed: u64,
    pub from: Option<u64>,
    pub ticks: Option<u64>,
    pub until: Option<u64>,
    pub ask: u64,
    pub acked: Option<u64>,
    pub every: u32,
    pub replicas: u64,
    pub stride: u64,
    pub dense: u64,
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Self, String> {
        let (dir, rest) = arguments.split_first().ok_or("name the store's folder")?;
        let mut options = Self {
            dir: dir.into(),
            containers: 64,
            every: 1,
            stride: 1,
            dense: u64::MAX,
            ask: u64::MAX,
            ..Self::default()
        };
        for pair in rest.chunks(2) {
            let [flag, value] = pair else {
                return Err(format!("{pair:?} needs a value"));
            };
            let number: u64 = value.parse().map_err(|e| format!("{flag} {value}: {e}"))?;
            match flag.as_str() {
                "--containers" => options.containers = number as u32,
                "--seed" => options.seed = number,
                "--from" => options.from = Some(number),
                "--until" => options.until = Some(number),
                "--ticks" => options.ticks = Some(number),
                "--ask" => options.ask = number,
                "--acked" => options.acked = Some(number),
                "--every" => options.every = (number as u32).max(1),
                "--replicas" => options.replicas = number,
                "--dense" => options.dense = number,
                "--stride" => options.stride = number.max(1),
                _ => return Err(format!("there is no {flag}")),
            }
        }
        Ok(options)
    }

    /// What is written, when there are so many containers.
    fn model(&self, containers: u32) -> Model {
        let Self { seed, replicas, stride, dense, .. } = *self;
        Model { seed, containers, replicas, stride, dense }
    }
}

/// Runs one command; anything that is wrong with it is exit code 1.
pub fn run(arguments: &[String]) -> ExitCode {
    let command = arguments.first().map(String::as_str);
    let options = Options::parse(arguments.get(1..).unwrap_or_default());
    let done = match (command, options) {
        (Some("write"), Ok(options)) => write::write(&options),
        (Some("verify"), Ok(options)) => verify::verify(&options),
        (Some("open"), Ok(options)) => open::open(&options),
        (Some("tell"), Ok(options)) => tell::tell(&options),
        (Some("write" | "verify" | "open" | "tell"), Err(error)) => Err(error),
        _ => Err(USAGE.to_owned()),
    };
    done.unwrap_or_else(|error| {
        eprintln!("{error}");
        ExitCode::from(1)
    })
}
