//! A file through `optipod store import`: what the fuzz target `import_lines` does with its input.
//!
//! By way of the command, so that what it tells the store is tried too; that takes some milliseconds.

use clap::Parser as _;
use optipod::cli::{Cli, execute};
use std::fs;
use std::path::Path;

/// Why the command refused the file; it panics where it does so without a reason. `dir` is emptied.
pub fn import(file: &[u8], dir: &Path) -> Result<(), String> {
    let _ = fs::remove_dir_all(dir);
    fs::create_dir_all(dir).expect("an empty folder");
    let (path, store) = (dir.join("file"), dir.join("store"));
    fs::write(&path, file).expect("a file in it");
    let words = ["optipod".as_ref(), "store".as_ref(), "import".as_ref(), store.as_os_str(), path.as_os_str()];
    let cli = Cli::try_parse_from(words).expect("a command line");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let reason = match runtime.block_on(execute(cli)) {
        Ok(_) => return Ok(()),
        Err(error) => format!("{error:#}"),
    };
    let is_told =
        ["line ", "there is nothing to import", "which cannot be imported"].iter().any(|part| reason.contains(part));
    assert!(is_told, "it says neither where nor what: {reason}");
    Err(reason)
}
