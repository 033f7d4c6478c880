//! Where the control plane's binary is.

use std::path::{Path, PathBuf};

/// Names a binary to use instead of the one that `just control-plane` builds.
const BINARY_VARIABLE: &str = "OPTIPOD_CONTROLPLANE_BIN";
/// Set to 1 where a missing control plane must fail the tests, as in CI.
const REQUIRE_VARIABLE: &str = "OPTIPOD_REQUIRE_CLUSTER";
const BUILT: &str = "tests/controlplane/bin/controlplane";

/// The binary, or what to do to get it.
pub fn find() -> Result<PathBuf, String> {
    let (path, remedy) = match std::env::var_os(BINARY_VARIABLE) {
        Some(path) => (PathBuf::from(path), format!("fix {BINARY_VARIABLE}")),
        None => (Path::new(env!("CARGO_MANIFEST_DIR")).join(BUILT), "run: just control-plane".to_owned()),
    };
    // Absolute, because the components run in a folder of their own.
    match std::path::absolute(&path) {
        Ok(absolute) if absolute.is_file() => Ok(absolute),
        _ => Err(format!("no control plane at {}; {remedy}", path.display())),
    }
}

/// Whether tests without a control plane fail instead of being ignored.
pub fn is_required() -> bool {
    std::env::var_os(REQUIRE_VARIABLE).is_some_and(|value| value == "1")
}
