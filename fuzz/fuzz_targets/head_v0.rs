#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| optipod_fuzz::run("head_v0", bytes));
