//! One input through one decoder: no panic, bounded memory, and what it accepts stays the same
//! when it is written and read again. Shared by the fuzz targets and the replay of their corpora.

use std::path::Path;

use optipod_storage::fuzzing::{DECODERS, Decode};

use super::counting::asked_by;

/// Bytes that decoding may ask the allocator for, all requests together: for each of the input ...
const PER_BYTE: u64 = 256;
/// ... and whatever its length is.
const ANYWAY: u64 = 4096;

/// Puts an input through the decoder of this name, and panics when something is wrong; what an
/// accepted input is when it is written again. `dir` is emptied.
pub fn check(name: &str, bytes: &[u8], dir: &Path) -> Option<Vec<u8>> {
    let dir_of_input = empty(dir);
    let (asked, decoded) = asked_by(|| decoder(name)(bytes, &dir_of_input));
    let (asked, len) = (asked.bytes, bytes.len() as u64);
    assert!(asked <= ANYWAY + PER_BYTE * len, "{asked} bytes of memory asked for {len} of input");
    let once = decoded?(&empty(dir))?;
    let again = decoder(written_as(name))(&once, &empty(dir)).expect("what it wrote itself is accepted");
    assert_eq!(again(&empty(dir)), Some(once.clone()), "written again it is another");
    Some(once)
}

fn decoder(name: &str) -> Decode {
    DECODERS.iter().find(|(decoder, _)| *decoder == name).expect("a decoder").1
}

/// The decoder of what this one's input becomes: version 0 is read, and written no more.
pub fn written_as(name: &str) -> &str {
    name.strip_suffix("_v0").unwrap_or(name)
}

/// An empty folder of this thread.
fn empty(dir: &Path) -> std::path::PathBuf {
    let dir = dir.join("work");
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    dir
}
