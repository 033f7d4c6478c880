#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| drop(optipod_fuzz::import_file(bytes)));
