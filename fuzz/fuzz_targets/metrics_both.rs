#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| drop(optipod_fuzz::both::check(&String::from_utf8_lossy(bytes))));
