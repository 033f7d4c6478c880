//! What every fuzz target does with its input: the same as the replay of the corpora in
//! `storage/tests/corpora/` and `tests/corpora/`.

#[cfg(feature = "collector")]
#[path = "../../tests/corpora/both.rs"]
pub mod both;
#[path = "../../storage/tests/corpora/counting.rs"]
mod counting;
#[cfg(feature = "collector")]
#[path = "../../tests/corpora/import.rs"]
mod import;

#[path = "../../storage/tests/corpora/check.rs"]
mod check;

use std::path::PathBuf;
use std::sync::LazyLock;

/// For the decoders that read files; it stays, so `just soak fuzz` names a folder of its own in TMPDIR.
static WORK: LazyLock<PathBuf> = LazyLock::new(|| tempfile::tempdir().expect("a temporary folder").keep());

/// Puts an input through the decoder of this name.
pub fn run(name: &str, bytes: &[u8]) {
    check::check(name, bytes, &WORK);
}

/// Puts a file through `optipod store import`.
#[cfg(feature = "collector")]
pub fn import_file(bytes: &[u8]) {
    let _ = import::import(bytes, &WORK.join("import"));
}
