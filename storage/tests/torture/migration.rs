//! SIGKILL, or a power cut, while a store of an older version is brought to today's.
//!
//! Oracle: the same store, migrated undisturbed, of which `tests/golden.rs` knows the answers.

use std::path::{Path, PathBuf};

use crate::driver::{copy_dir, tell};
use crate::phase::{Phase, aim};
use crate::trials::seed;

/// A copy of the store that version 0 left.
pub fn old_store(dir: PathBuf) -> PathBuf {
    copy_dir(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v0/store"), &dir);
    dir
}

/// Kills one migration, and lets another one complete it.
pub fn killed(root: &Path, library: &Path, life: u64, signal: i32) {
    let dir = old_store(root.join("killed"));
    let died = tell(&dir, &aim(library, &dir, Phase::Migration, seed() + life, signal));
    assert!(died.contains("aimed "), "the migration was not killed: {died}");
    assert_complete(root, &dir, &format!("life {life}, seed {}, {died}", seed()));
}

/// What was cut short answers as the one that was not, which is made in `root`.
pub fn assert_complete(root: &Path, dir: &Path, context: &str) {
    let expected = tell(&old_store(root.join("migrated")), &[]);
    assert!(expected.starts_with("Some(") && expected.lines().count() > 4, "{expected}");
    assert_eq!(tell(dir, &[]), expected, "{context}");
}
