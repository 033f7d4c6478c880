//! Writes a store as fast as it can, and checks one against what was written; see `storage/README.md`.
//!
//! It uses the same API and default settings as the collector. `tests/torture/` kills it, damages
//! its files and takes its disk away.

use std::process::ExitCode;

#[path = "../tests/torture/tool/mod.rs"]
mod tool;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    tool::run(&arguments)
}
