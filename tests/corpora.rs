//! The corpora of the collector's fuzz targets, in `fuzz/corpus/`: no input makes it panic, and both
//! forms of one list tell the same.
#![allow(clippy::unwrap_used, missing_docs, reason = "in a test a broken expectation is the failure")]

use optipod::collector::{ContainerPoint, decode_json, decode_protobuf};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

type Pods = Option<Vec<String>>;

/// What each file of a corpus decodes to.
fn replay(name: &str, decode: fn(&[u8]) -> Pods) -> BTreeMap<String, Pods> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let files = fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
    files
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), decode(&fs::read(&path).unwrap())))
        .collect()
}

#[test]
fn the_collector_takes_its_corpora() {
    let by_protobuf = replay("metrics_protobuf", |bytes| {
        let mut pods = Vec::new();
        decode_protobuf(bytes, |pod| pods.push(format!("{pod:?}"))).ok().map(|_| pods)
    });
    let by_json = replay("metrics_json", |bytes| {
        let mut pods = Vec::new();
        decode_json(bytes, |pod| pods.push(format!("{pod:?}"))).ok().map(|_| pods)
    });
    assert!(by_protobuf.len() >= 20 && by_json.len() >= 20);
    for (name, pods) in by_protobuf.iter().filter(|(name, _)| name.starts_with("valid")) {
        assert!(pods.is_some(), "{name} is refused");
        assert_eq!(pods, &by_json[name], "{name}");
    }
    let app = ContainerPoint { name: "app".into(), cpu: Some(1.0), memory: Some(1_048_576.0) };
    let pods = by_protobuf["valid-01"].as_ref().unwrap();
    assert!(pods.len() == 1 && pods[0].contains(&format!("{app:?}")), "{pods:?}");
}
