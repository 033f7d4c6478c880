//! Folders that the process may not write: opening says what to do, looking works where reading
//! does. Another user needs root, and so does a read-only volume.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

mod support;

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use optipod_storage::{Store, StoreOptions};
use support::*;

const CHILD_DIR: &str = "OPTIPOD_TEST_CHILD_DIR";
const NOBODY: u32 = 65_534;

/// Hour, 5-minute and open slots of two series.
fn build(dir: &Path) {
    let store = open(dir, START);
    for n in 0..200 {
        tick(&store, 2, START + mins(n), 1.0);
        store.maintain(START + mins(n)).unwrap();
    }
    maintain_all(&store, START + mins(200));
}

/// What opening and looking say, and what there is when they succeed.
fn tried(dir: &Path) -> String {
    let opened = Store::open(dir, StoreOptions::default(), START);
    let opened = opened.map_or_else(|e| e.to_string(), |_| "opened".to_owned());
    let scratch = tempfile::tempdir().unwrap();
    let found = Store::examine(dir, scratch.path());
    let found = found.map_or_else(
        |e| e.to_string(),
        |found| format!("{} series, {} slots, {:?}", found.series, found.slots.len(), found.problems),
    );
    format!("open: {opened}\nexamine: {found}\n")
}

/// Not a test of its own: prints what another user meets.
#[test]
#[ignore = "run by the others as another user"]
fn child() {
    if let Ok(dir) = std::env::var(CHILD_DIR) {
        println!("\n{}", tried(Path::new(&dir)));
    }
}

/// What a user without rights meets.
fn tried_by_nobody(root: &Path, dir: &Path) -> String {
    let program = root.join("program"); // where anyone may run it
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let mut command = Command::new(program);
    command.args(["--exact", "child", "--ignored", "--nocapture"]).env(CHILD_DIR, dir).uid(NOBODY).gid(NOBODY);
    let out = command.output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// A folder that anyone may pass, and a store in it; nothing, with a word, where this is not root.
fn prepared() -> Option<(tempfile::TempDir, PathBuf)> {
    if !is_root() {
        println!("skipped: only root can act as another user");
        return None;
    }
    let root = tempfile::tempdir().unwrap();
    fs::set_permissions(root.path(), Permissions::from_mode(0o755)).unwrap();
    let dir = root.path().join("store");
    build(&dir);
    Some((root, dir))
}

/// Changes all files and folders of a store.
fn for_all(path: &Path, change: &impl Fn(&Path)) {
    change(path);
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            for_all(&entry.unwrap().path(), change);
        }
    }
}

fn contents(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let all = std::cell::RefCell::new(Vec::new());
    for_all(dir, &|path| all.borrow_mut().push((path.to_owned(), fs::read(path).unwrap_or_default())));
    let mut all = all.into_inner();
    all.sort();
    all
}

fn assert_opening_says_what_to_do(said: &str, dir: &Path, cause: &str, remedies: &[&str]) {
    let line = said.lines().find(|line| line.starts_with("open: ")).unwrap();
    for part in [dir.to_str().unwrap(), cause].iter().chain(remedies) {
        assert!(line.contains(part), "{part}: {line}");
    }
}

const WHOLE: &str = "examine: 2 series, 28 slots, []";

#[test]
fn a_store_of_another_owner_is_not_opened_and_can_be_looked_at() {
    let Some((root, dir)) = prepared() else { return };
    let before = contents(&dir);
    let said = tried_by_nobody(root.path(), &dir);
    assert_opening_says_what_to_do(&said, &dir, "Permission denied", &["chown", "fsGroup"]);
    assert!(said.contains(WHOLE), "{said}");
    assert!(contents(&dir) == before);
    fs::set_permissions(&dir, Permissions::from_mode(0o700)).unwrap();
    let said = tried_by_nobody(root.path(), &dir);
    let line = said.lines().find(|line| line.starts_with("examine: ")).unwrap();
    assert!(line.contains(dir.to_str().unwrap()) && line.contains("Permission denied"), "{line}");
    assert!(line.contains("chown"), "{line}");
}

#[test]
fn a_store_whose_files_its_owner_may_not_write_can_be_looked_at() {
    let Some((root, dir)) = prepared() else { return };
    fs::remove_file(dir.join("lock")).unwrap(); // as in a copy of what matters
    for_all(&dir, &|path| {
        let mode = if path.is_dir() { 0o555 } else { 0o444 };
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    });
    let before = contents(&dir);
    let said = tried_by_nobody(root.path(), &dir);
    assert_opening_says_what_to_do(&said, &dir, "Permission denied", &["chown"]);
    assert!(said.contains(WHOLE), "{said}");
    assert!(contents(&dir) == before);
}

/// A small file system, unmounted when dropped.
struct Mount(PathBuf);

fn mount(arguments: &[&str], at: &Path) -> Result<(), String> {
    let out = Command::new("mount").args(arguments).arg(at).output().map_err(|e| e.to_string())?;
    if out.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&out.stderr).into_owned()) }
}

impl Drop for Mount {
    fn drop(&mut self) {
        drop(Command::new("umount").arg(&self.0).status());
    }
}

#[test]
fn a_store_on_a_read_only_volume_is_not_opened_and_can_be_looked_at() {
    let root = tempfile::tempdir().unwrap();
    if let Err(reason) = mount(&["-t", "tmpfs", "-o", "size=64m", "optipod-rights"], root.path()) {
        println!("skipped: no file system can be mounted: {reason}");
        return;
    }
    let mount_point = Mount(root.path().to_owned());
    let dir = mount_point.0.join("store");
    build(&dir);
    mount(&["-o", "remount,ro"], &mount_point.0).unwrap();
    let said = tried(&dir);
    assert_opening_says_what_to_do(&said, &dir, "Read-only file system", &["mount it writable"]);
    assert!(said.contains(WHOLE), "{said}");
}
