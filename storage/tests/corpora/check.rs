//! One input through one decoder: no panic, bounded memory, and what it accepts stays the same
//! when it is written and read again. Shared by the fuzz targets and the replay of their corpora.
#![allow(unsafe_code, reason = "a global allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::Path;

use optipod_storage::fuzzing::Decode;

/// Bytes that decoding may ask the allocator for, all requests together: for each of the input ...
const PER_BYTE: u64 = 256;
/// ... and whatever its length is.
const ANYWAY: u64 = 4096;

thread_local! {
    static ASKED: Cell<u64> = const { Cell::new(0) };
}

/// Counts the bytes that each thread asks for.
struct Counting;

fn note(bytes: usize) {
    let _ = ASKED.try_with(|asked| asked.set(asked.get() + bytes as u64));
}

unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size);
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Panics when something is wrong; what an accepted input is when it is written again. `dir` is
/// emptied.
pub fn check(decode: Decode, bytes: &[u8], dir: &Path) -> Option<Vec<u8>> {
    let before = ASKED.get();
    let decoded = decode(bytes, &empty(dir));
    let (asked, len) = (ASKED.get() - before, bytes.len() as u64);
    assert!(asked <= ANYWAY + PER_BYTE * len, "{asked} bytes of memory asked for {len} of input");
    let once = decoded?(&empty(dir))?;
    let again = decode(&once, &empty(dir)).expect("what it wrote itself is accepted");
    assert_eq!(again(&empty(dir)), Some(once.clone()), "written again it is another");
    Some(once)
}

/// An empty folder of this thread.
fn empty(dir: &Path) -> std::path::PathBuf {
    let dir = dir.join("work");
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    dir
}
