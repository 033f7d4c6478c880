//! What earlier versions left behind, in `tests/fixtures/releases/`, is understood.
//!
//! | module | what it shows |
//! |---|---|
//! | `history` | the stores answer over gRPC as they did when the release was made |
//! | `wire` | what the release's programs say over gRPC means the same today |
//! | `newer` | the store of a version to come is refused and left alone |
//!
//! `tests/cluster/optipod/upgrade/` upgrades from the same folders on a real control plane.

mod history;
mod newer;
mod wire;

use std::fs;
use std::path::{Path, PathBuf};

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/releases").join(name)
}

/// The folder of every release.
fn releases() -> Vec<PathBuf> {
    let entries = fs::read_dir(folder("")).unwrap().map(|entry| entry.unwrap().path());
    let mut folders: Vec<PathBuf> = entries.filter(|path| path.is_dir()).collect();
    folders.sort();
    folders
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// So that no version is released without its folder, and nothing changes under the name of a version that is out.
#[test]
fn the_version_to_be_released_has_a_folder_that_is_up_to_date() {
    let dir = folder(VERSION);
    for part in ["crd.yaml", "api.binpb", "policies.yaml", "workloads.yaml", "answers.json", "store"] {
        assert!(dir.join(part).exists(), "{part} of {} is missing; run .ci/release_fixture", dir.display());
    }
    let remedy = "if this version is released, raise the one in Cargo.toml; then run .ci/release_fixture --schema";
    let crd = fs::read_to_string(folder("../../../crds/optimizationpolicies.optipod.io.yaml")).unwrap();
    assert!(
        fs::read_to_string(dir.join("crd.yaml")).unwrap() == crd,
        "the CRD is not that of {VERSION} any more: {remedy}"
    );
    assert!(wire::of_release(&dir) == wire::of_today(), "proto/ is not that of {VERSION} any more: {remedy}");
}

/// A step of `.ci/release_fixture`.
#[test]
#[ignore = "writes the CRD and the API of today to $OPTIPOD_RELEASE_FIXTURE, by .ci/release_fixture only"]
fn write_schema() {
    let dir = PathBuf::from(std::env::var("OPTIPOD_RELEASE_FIXTURE").unwrap());
    fs::create_dir_all(&dir).unwrap();
    fs::copy(folder("../../../crds/optimizationpolicies.optipod.io.yaml"), dir.join("crd.yaml")).unwrap();
    wire::write_today(&dir);
}
