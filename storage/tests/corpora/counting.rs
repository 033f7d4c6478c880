//! What a thread asks of the allocator.
#![allow(unsafe_code, reason = "a global allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Requests, and the bytes of all of them together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Asked {
    pub times: u64,
    pub bytes: u64,
}

thread_local! {
    static ASKED: Cell<Asked> = const { Cell::new(Asked { times: 0, bytes: 0 }) };
}

/// What `work` asks for on this thread, and what it gives.
pub fn asked_by<T>(work: impl FnOnce() -> T) -> (Asked, T) {
    let before = ASKED.get();
    let done = work();
    let after = ASKED.get();
    (Asked { times: after.times - before.times, bytes: after.bytes - before.bytes }, done)
}

struct Counting;

fn note(bytes: usize) {
    let _ = ASKED.try_with(|asked| {
        let Asked { times, bytes: before } = asked.get();
        asked.set(Asked { times: times + 1, bytes: before + bytes as u64 });
    });
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
