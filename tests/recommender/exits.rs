//! What the program exits with: 2 says that there is damage, and nothing else does.

use std::process::Command;

#[test]
fn a_command_line_that_is_not_understood_is_not_damage() {
    for (line, code) in [
        (&["--help"][..], 0),
        (&["--version"], 0),
        (&["store", "verify"], 1),
        (&["store", "verify", "--nonsense"], 1),
        (&["store", "verify", "/nowhere"], 1),
        (&["nonsense"], 1),
        (&[], 1),
    ] {
        let out = Command::new(env!("CARGO_BIN_EXE_optipod")).args(line).env_clear().output().unwrap();
        assert_eq!(out.status.code(), Some(code), "{line:?}: {}", String::from_utf8_lossy(&out.stderr));
        assert_eq!(out.stderr.is_empty(), code == 0, "{line:?}");
    }
}
