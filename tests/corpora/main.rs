//! The corpora of the collector's and the command line's fuzz targets, in `fuzz/corpus/`: no input makes them panic,
//! and both forms of one list tell the same.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::cast_possible_truncation,
    missing_docs,
    reason = "in a test a broken expectation is the failure"
)]

mod both;
#[path = "../../storage/tests/corpora/counting.rs"]
mod counting;
mod import;

use counting::{Asked, asked_by};
use optipod::collector::{ContainerPoint, decode_json, decode_protobuf};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

type Pods = Option<Vec<String>>;

/// What each file of a corpus gives.
fn replay<T>(name: &str, mut run: impl FnMut(&[u8]) -> T) -> BTreeMap<String, T> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let files = fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
    let name_of = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    let results: BTreeMap<_, _> = files.map(|path| (name_of(&path), run(&fs::read(&path).unwrap()))).collect();
    assert!(results.len() >= 20, "{name}: {} files; write them anew with the example `seeds`", results.len());
    results
}

#[test]
fn the_collector_takes_its_corpora() {
    let by_protobuf: BTreeMap<_, Pods> = replay("metrics_protobuf", |bytes| {
        let mut pods = Vec::new();
        decode_protobuf(bytes, |pod| pods.push(format!("{pod:?}"))).ok().map(|_| pods)
    });
    let by_json: BTreeMap<_, Pods> = replay("metrics_json", |bytes| {
        let mut pods = Vec::new();
        decode_json(bytes, |pod| pods.push(format!("{pod:?}"))).ok().map(|_| pods)
    });
    for (name, pods) in by_protobuf.iter().filter(|(name, _)| name.starts_with("valid")) {
        assert!(pods.is_some(), "{name} is refused");
        assert_eq!(pods, &by_json[name], "{name}");
    }
    let app = ContainerPoint { name: "app".into(), cpu: Some(1.0), memory: Some(1_048_576.0) };
    let pods = by_protobuf["valid-01"].as_ref().unwrap();
    assert!(pods.len() == 1 && pods[0].contains(&format!("{app:?}")), "{pods:?}");
}

#[test]
fn both_forms_of_each_list_give_it() {
    let pods = replay("metrics_both", |bytes| both::check(&String::from_utf8_lossy(bytes)));
    assert_eq!(["valid-00", "valid-01", "valid-02", "valid-03"].map(|name| pods[name]), [0, 1, 2, 2]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn both_forms_of_any_list_give_it(
        likely in "([a-z-]{0,9};[\\PC]{0,9};-?[0-9]{0,12}(;[a-z]{0,5}=[-0-9.]{0,8}(n|m|k|e3)?,[-0-9.]{0,8}(Ki|M)?){0,3}\n){0,5}",
        other in "\\PC{0,60}",
    ) {
        both::check(&likely);
        both::check(&other);
    }
}

#[test]
fn the_import_takes_what_is_an_export_or_samples_and_says_what_else_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let results = replay("import_lines", |bytes| import::import(bytes, dir.path()));
    for (name, result) in &results {
        assert!(!name.starts_with("valid") || result.is_ok(), "{name}: {result:?}");
        assert!(!name.starts_with("wrong") || result.is_err(), "{name} is taken");
    }
}

/// What reading a list asks of the allocator, and how many containers it has.
fn asked_for(list: &str) -> (Asked, usize) {
    let (body, mut containers) = (both::as_protobuf(list), 0);
    let (asked, pods) = asked_by(|| decode_protobuf(&body, |pod| containers += pod.containers.len()).unwrap());
    assert_eq!(pods, list.lines().count());
    (asked, containers)
}

#[test]
fn reading_protobuf_allocates_nothing_per_pod_or_container() {
    let list = |pods: usize| {
        let pod = |n| format!("shop;web-{n};{};app=250m,12Mi;proxy=1500000n,128974848\n", 1_767_225_600 + n);
        (0..pods).map(pod).collect::<String>()
    };
    let [few, many] = [500, 5000].map(|pods| asked_for(&list(pods)));
    assert_eq!((few.1, many.1), (1000, 10_000));
    assert_eq!(few.0, many.0, "of 1,000 containers and of 10,000");
    assert!(few.0.times <= 1, "one list of a pod's containers: {few:?}");
    // All in one pod: only that list grows, by doubling.
    let one_pod = |containers: usize| asked_for(&format!("shop;web;1{}", ";app=250m,12Mi".repeat(containers)));
    let [few, many] = [1000, 10_000].map(one_pod);
    assert_eq!((few.1, many.1), (1000, 10_000));
    assert!(few.0.times > 0 && many.0.times <= few.0.times + 4, "{few:?} {many:?}");
}
