//! Every file of `fuzz/corpus/` through its decoder, as the fuzz targets do it.
//!
//! `cargo run -p optipod-storage --example seeds` writes the corpora: by FORMAT.md alone, so that
//! they show too that the store's bytes are as it says.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    reason = "in a test a broken expectation is the failure"
)]

mod check;
mod counting;

use check::{check, written_as};
use optipod_storage::fuzzing::DECODERS;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

fn corpora() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus")
}

#[test]
fn every_decoder_takes_its_corpus() {
    let work = tempfile::tempdir().unwrap();
    for (name, _) in DECODERS {
        let files: Vec<_> = fs::read_dir(corpora().join(name)).unwrap().map(|file| file.unwrap().path()).collect();
        assert!(files.len() >= 20, "{name}: {} files; write them anew with the example `seeds`", files.len());
        for path in &files {
            let bytes = fs::read(path).unwrap();
            let result = catch_unwind(AssertUnwindSafe(|| check(name, &bytes, work.path())));
            let written = result.unwrap_or_else(|_| panic!("{}: see above", path.display()));
            let file = path.file_name().unwrap();
            if file.to_string_lossy().starts_with("valid") {
                let expected = fs::read(corpora().join(written_as(name)).join(file)).unwrap();
                assert!(written == Some(expected), "{} is not what the store writes", path.display());
            }
        }
    }
}

#[test]
fn every_corpus_has_a_decoder_and_a_target() {
    let names = |dir: &Path| {
        let entries = fs::read_dir(dir).unwrap();
        let mut names: Vec<String> =
            entries.map(|e| e.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned()).collect();
        names.retain(|name| !name.starts_with("metrics_") && !name.starts_with("import_")); // `tests/corpora/` of `optipod`
        names.sort();
        names
    };
    let mut decoders: Vec<String> = DECODERS.iter().map(|(name, _)| (*name).to_owned()).collect();
    decoders.sort();
    assert_eq!(names(&corpora()), decoders);
    assert_eq!(names(&corpora().join("../fuzz_targets")), decoders);
}
