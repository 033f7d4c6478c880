#![no_main]
use optipod::collector::decode_json;
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| drop(decode_json(bytes, |pod| drop(std::hint::black_box(pod.clone())))));
