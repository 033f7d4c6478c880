//! How often, from which seed, where, and several at a time.

use std::panic::resume_unwind;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use tempfile::TempDir;

/// Memory that the stores of all trials may take.
const ROOM_KB: u64 = 1 << 20;

/// A number from the environment.
pub fn count(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// One seed for a whole run: what is written, and where it is hit.
pub fn seed() -> u64 {
    count("OPTIPOD_TORTURE_SEED", 7)
}

/// A folder for stores: in memory where there is room, since what a killed process or a failed
/// call leaves is the same there, without waiting for a disk. `OPTIPOD_TORTURE_DIR` names another.
pub fn scratch() -> TempDir {
    let memory = || PathBuf::from("/dev/shm");
    let parent = std::env::var_os("OPTIPOD_TORTURE_DIR").map(PathBuf::from).or_else(|| has_room().then(memory));
    tempfile::tempdir_in(parent.unwrap_or_else(std::env::temp_dir)).unwrap()
}

fn has_room() -> bool {
    let out = Command::new("df").args(["-Pk", "/dev/shm"]).output();
    let said = out.map(|out| String::from_utf8_lossy(&out.stdout).into_owned()).unwrap_or_default();
    let available = said.lines().nth(1).and_then(|line| line.split_whitespace().nth(3)?.parse().ok());
    available.is_some_and(|kb: u64| kb >= ROOM_KB)
}

/// Runs trials 0 to `count`, one a core at a time. One that fails ends its core's; the test fails
/// with it when the others are done.
pub fn each<T: Send>(count: u64, trial: impl Fn(u64) -> T + Sync) -> Vec<T> {
    let next = AtomicU64::new(0);
    let lane = || {
        let numbers = std::iter::repeat_with(|| next.fetch_add(1, Ordering::SeqCst));
        numbers.take_while(|n| *n < count).map(&trial).collect::<Vec<T>>()
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let lanes: Vec<_> = (0..cores).map(|_| scope.spawn(lane)).collect();
        lanes.into_iter().flat_map(|lane| lane.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
    })
}
