//! Planted bugs that tests must catch: one for each of the 32 correctness properties (`docs/properties.md`), and from 101 on
//! those of the concurrent kind (`docs/schedules.md`).
//!
//! It may not know what a plant breaks. Invariant: a build without debug assertions, as every release is, has no plants:
//! [`planted`] is constant there, and the environment is not even read.

/// Whether the bug of this number is planted in this process (`OPTIPOD_PLANT=n`).
#[cfg(debug_assertions)]
pub fn planted(number: u8) -> bool {
    static PLANTED: std::sync::LazyLock<Option<u8>> =
        std::sync::LazyLock::new(|| std::env::var("OPTIPOD_PLANT").ok()?.parse().ok());
    *PLANTED == Some(number)
}

/// No bug is planted.
#[cfg(not(debug_assertions))]
pub const fn planted(_number: u8) -> bool {
    false
}
