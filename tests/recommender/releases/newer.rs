//! A downgrade across formats of the store is refused, so that nothing of it is read wrongly.

use super::{copy, folder};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// No test waits longer for a process that should have ended.
const ENDS_WITHIN: &str = "60";
/// Where a snapshot of the series has its version, after the mark of eight bytes.
const VERSION_AT: usize = 8;

/// A cluster that does not answer: the store is opened before it is asked.
const KUBECONFIG: &str = r#"{"apiVersion": "v1", "kind": "Config", "current-context": "c",
    "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:9"}}],
    "users": [{"name": "u", "user": {}}],
    "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]}"#;

fn optipod(root: &Path, arguments: &[&str]) -> Output {
    fs::write(root.join("kubeconfig"), KUBECONFIG).unwrap();
    let mut command = Command::new("timeout");
    command.args(["--signal=KILL", ENDS_WITHIN, env!("CARGO_BIN_EXE_optipod")]).args(arguments);
    command.env_clear().env("KUBECONFIG", root.join("kubeconfig")).output().unwrap()
}

fn snapshots(store: &Path) -> Vec<PathBuf> {
    fs::read_dir(store.join("series")).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn a_store_of_a_newer_format_is_refused_with_both_versions_and_what_to_do() {
    let root = tempfile::tempdir().unwrap();
    let store = root.path().join("store");
    copy(&folder("../../../storage/tests/golden/v1/store"), &store);
    for snapshot in snapshots(&store) {
        let mut bytes = fs::read(&snapshot).unwrap();
        bytes[VERSION_AT] += 1;
        fs::write(snapshot, bytes).unwrap();
    }
    let before: Vec<Vec<u8>> = snapshots(&store).iter().map(|path| fs::read(path).unwrap()).collect();
    let data = format!("--data-dir={}", store.display());
    let recommender =
        ["recommender", &data, "--grpc-addr=127.0.0.1:0", "--metrics-addr=0", "--health-probe-bind-address=0"];
    let place = store.display().to_string();
    for arguments in [&recommender[..], &["store", "verify", &place], &["store", "export", &place, "--format=jsonl"]] {
        let output = optipod(root.path(), arguments);

        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        for part in ["has format version 2, this program reads 1", "run the OptiPod that wrote it"] {
            assert!(said.contains(part), "{arguments:?}: {part:?} is not in {said}");
        }
    }
    let after: Vec<Vec<u8>> = snapshots(&store).iter().map(|path| fs::read(path).unwrap()).collect();
    assert_eq!(after, before, "it is left alone");
}
