//! Calls that fail: EIO at each Nth call that changes something, and at each Nth that reads, from
//! opening to roll-up.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::driver::{EACH_TICK, Writer, copy_dir, files, prepared, verify};
use crate::trials::{count, each, scratch, seed};

pub const EIO: i32 = 5;

/// Compiles the shim; why it cannot be.
fn shim(dir: &Path) -> Result<PathBuf, String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/torture/fault.c");
    let library = dir.join("fault.so");
    let mut command = Command::new("cc");
    command.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).arg("-ldl");
    let out = command.output().map_err(|e| format!("cc does not run: {e}"))?;
    if out.status.success() { Ok(library) } else { Err(String::from_utf8_lossy(&out.stderr).into_owned()) }
}

/// Compiles the shim for a test whose count `variable` may set. Where it cannot be, that is told;
/// where the count was asked for, as in CI, the test fails.
pub fn shim_for(variable: &str, dir: &Path) -> Option<PathBuf> {
    let reason = match shim(dir) {
        Ok(library) => return Some(library),
        Err(reason) => reason,
    };
    assert!(
        std::env::var_os(variable).is_none(),
        "{variable} is set, but tests/torture/fault.c cannot be compiled: install a C compiler as `cc` (gcc and \
         libc6-dev, or clang): {reason}"
    );
    println!("not all of it is tested without a C compiler: {reason}");
    None
}

/// The environment in which calls from number `at` on fail.
pub fn environment(library: &Path, dir: &Path, at: u64, times: u64, errno: i32) -> Vec<(&'static str, String)> {
    vec![
        ("LD_PRELOAD", library.display().to_string()),
        ("OPTIPOD_FAULT_DIR", dir.display().to_string()),
        ("OPTIPOD_FAULT_AT", at.to_string()),
        ("OPTIPOD_FAULT_COUNT", times.to_string()),
        ("OPTIPOD_FAULT_ERRNO", errno.to_string()),
    ]
}

/// Ticks before a seal (due with tick 1188) that end before a roll-up (due with tick 1200).
const TICKS: i64 = 1190;
/// So many calls in a row that what is tried a few times fails for good.
const FOR_A_WHILE: u64 = 50;

/// Which calls fail, and how many of them open the store and take it beyond the next seal and roll-up.
#[derive(Clone, Copy)]
enum Calls {
    Changes,
    /// Those that look for, open and read files and folders.
    Reads,
    /// The same where each tick is followed by a question about each container.
    Questions,
    /// Those that change something where `last-tick` is ahead of the database, which is kept aside then.
    Rewrites,
}

const KINDS: [Calls; 4] = [Calls::Changes, Calls::Reads, Calls::Questions, Calls::Rewrites];

impl Calls {
    fn until_the_roll_up(self) -> u64 {
        match self {
            Self::Changes | Self::Rewrites => 240,
            Self::Reads => 730,
            Self::Questions => 3600,
        }
    }
}

pub fn eio_at_each_call() {
    let trials = count("OPTIPOD_TORTURE_EIO", 8);
    let root = scratch();
    let Some(library) = shim_for("OPTIPOD_TORTURE_EIO", root.path()) else { return };
    let original = prepared(root.path().join("original"), EACH_TICK, TICKS);
    let later = prepared(root.path().join("later"), EACH_TICK, TICKS + 50);
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    let calls = each(trials, |n| {
        let dir = root.path().join(format!("store-{n}"));
        copy_dir(&original, &dir);
        let calls = KINDS[(n % 4) as usize];
        if matches!(calls, Calls::Rewrites) {
            std::fs::copy(later.join("last-tick"), dir.join("last-tick")).unwrap();
        }
        // Another seed takes the positions in between.
        let all = calls.until_the_roll_up();
        let at = 1 + (n * all / trials + seed() % 10 * all / trials / 10) % all;
        let times = [1, 2, 3, FOR_A_WHILE][((n / 4 + seed()) % 4) as usize];
        let call = one_trial(&library, &dir, (calls, at), times);
        std::fs::remove_dir_all(&dir).unwrap();
        call
    });
    for call in calls {
        *seen.entry(call).or_default() += 1;
    }
    println!("{trials} positions, failing first: {seen:?}");
}

fn is_damaged_part(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str().to_string_lossy().starts_with("sled.damaged"))
}

/// Lets a writer meet the fault, go on for a while if it can, and be killed; which call failed.
fn one_trial(library: &Path, dir: &Path, (calls, at): (Calls, u64), times: u64) -> String {
    let mut environment = environment(library, dir, at, times, EIO);
    if matches!(calls, Calls::Reads | Calls::Questions) {
        environment.push(("OPTIPOD_FAULT_READS", "1".to_owned()));
    }
    let options = if matches!(calls, Calls::Questions) { &["--ask", "0"] } else { EACH_TICK };
    let writer = Writer::start(dir, options, &environment);
    let said = writer.run_beyond(25, |said| said.complaint("fault ").is_some());
    let fault = said.complaint("fault ").unwrap_or_default();
    assert!(!fault.is_empty(), "call {at} never came: {said:?}");
    let found = verify(dir, EACH_TICK, said.acked);
    let context = format!("call {at} ({fault}) failed {times} times, seed {}: {said:?}\n{}", seed(), found.said);
    if matches!(calls, Calls::Rewrites) {
        // The ticks that it lacks are said to be lost; as many were never written.
        assert_eq!((found.code, found.lost), (Some(2), 0), "{context}");
        let kept = files(dir).into_iter().filter(|path| path.ends_with("conf") && is_damaged_part(path)).count();
        assert_eq!(kept, 1, "times kept: {context}");
    } else {
        assert_eq!((found.code, found.lost), (Some(0), 0), "{context}");
        assert!(said.complaint("problem ").is_none(), "taken for damage: {context}");
    }
    fault.split(' ').nth(2).unwrap_or_default().to_owned()
}
