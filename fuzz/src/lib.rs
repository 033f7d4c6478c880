//! What every fuzz target does with its input: the same as the replay of the corpora in
//! `storage/tests/corpora/`.

#[path = "../../storage/tests/corpora/check.rs"]
mod check;

use std::path::PathBuf;
use std::sync::LazyLock;

use optipod_storage::fuzzing::DECODERS;

/// For the decoders that read files; it stays, so `just soak fuzz` names a folder of its own in TMPDIR.
static WORK: LazyLock<PathBuf> = LazyLock::new(|| tempfile::tempdir().expect("a temporary folder").keep());

/// Puts an input through the decoder of this name.
pub fn run(name: &str, bytes: &[u8]) {
    let (_, decode) = DECODERS.iter().find(|(decoder, _)| *decoder == name).expect("a decoder");
    check::check(*decode, bytes, &WORK);
}
