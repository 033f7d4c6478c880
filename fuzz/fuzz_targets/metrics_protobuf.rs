#![no_main]
use optipod::collector::decode_protobuf;
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| drop(decode_protobuf(bytes, |pod| drop(std::hint::black_box(pod.clone())))));
