#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| optipod_fuzz::run("last_tick", bytes));
