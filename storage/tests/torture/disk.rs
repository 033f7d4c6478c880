//! A full disk, and a power cut. Both need root and file systems of their own.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::driver::{EACH_TICK, Said, Writer, verify};
use crate::fault;
use crate::migration;
use crate::phase::{AIMS, Phase, aim};
use crate::trials::{count, each, scratch, seed};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let out = Command::new(program).args(arguments).output().map_err(|e| format!("{program}: {e}"))?;
    if out.status.success() {
        return Ok(String::from_utf8_lossy(&out.stdout).into_owned());
    }
    Err(format!("{program} {arguments:?}: {}", String::from_utf8_lossy(&out.stderr).trim()))
}

/// A mounted file system, unmounted when dropped.
struct Mount(PathBuf);

impl Mount {
    fn new(at: PathBuf, arguments: &[&str]) -> Result<Self, String> {
        fs::create_dir_all(&at).map_err(|e| e.to_string())?;
        let path = at.display().to_string();
        run("mount", &[arguments, &[path.as_str()]].concat())?;
        Ok(Self(at))
    }

    fn tmpfs(at: PathBuf) -> Result<Self, String> {
        Self::new(at, &["-t", "tmpfs", "-o", "size=8m", "optipod-torture"])
    }

    fn image(image: &Path, at: PathBuf) -> Result<Self, String> {
        Self::new(at, &["-t", "ext4", "-o", "loop", &image.display().to_string()])
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = run("umount", &[&self.0.display().to_string()]);
    }
}

/// Why a small file system cannot be mounted here.
pub fn no_tmpfs() -> Option<String> {
    let dir = tempfile::tempdir().ok()?;
    Mount::tmpfs(dir.path().join("try")).err()
}

/// Why an image cannot be mounted here.
pub fn no_loop() -> Option<String> {
    let dir = tempfile::tempdir().ok()?;
    let image = dir.path().join("image");
    new_image(&image).and_then(|()| Mount::image(&image, dir.path().join("try"))).err()
}

fn new_image(path: &Path) -> Result<(), String> {
    let file = fs::File::create(path).map_err(|e| e.to_string())?;
    file.set_len(96 << 20).map_err(|e| e.to_string())?;
    run("mkfs.ext4", &["-q", "-F", &path.display().to_string()]).map(drop)
}

/// Fills the file system around `dir` to the last byte.
fn fill(path: &Path) {
    let mut file = fs::File::create(path).unwrap();
    let mut chunk = vec![1; 1 << 16];
    while !chunk.is_empty() {
        if file.write_all(&chunk).is_err() {
            chunk.truncate(chunk.len() / 2);
        }
    }
}

pub fn full_disk() {
    let rounds = count("OPTIPOD_TORTURE_FULL", 3);
    let root = tempfile::tempdir().unwrap();
    let mount = Mount::tmpfs(root.path().join("small")).unwrap();
    let (dir, ballast) = (mount.0.join("store"), mount.0.join("ballast"));
    let writer = Writer::start(&dir, EACH_TICK, &[]);
    for _ in 0..rounds {
        let before = writer.said();
        writer.wait_until("it goes on", |said| said.acked > before.acked + 300);
        fill(&ballast);
        let before = refused(&writer.said()).len();
        writer.wait_until("ticks are refused", |said| refused(said).len() > before + 2);
        let stuck = writer.said();
        let clear = refused(&stuck).iter().all(|line| line.contains("No space left") || line.contains("is not full"));
        assert!(clear, "unclear: {:?}", refused(&stuck));
        fs::remove_file(&ballast).unwrap();
        writer.wait_until("it resumes", |said| said.acked > stuck.acked + 200);
    }
    fill(&ballast);
    let before = refused(&writer.said()).len();
    writer.wait_until("a tick is refused", |said| refused(said).len() > before);
    let acked = writer.kill().acked;
    // Opened while the disk is full it may refuse, but it must not take this for damage.
    let full = verify(&dir, EACH_TICK, acked);
    assert!(matches!(full.code, Some(0 | 1)), "while full: {}", full.said);
    fs::remove_file(&ballast).unwrap();
    let found = verify(&dir, EACH_TICK, acked);
    assert!(found.is_whole(), "{}\nwhile full: {}", found.said, full.said);
    let opened = if full.code == Some(0) { "opened" } else { "refused" };
    println!("{} times full, {acked} ticks; the last time it {opened}", rounds + 1);
}

fn refused(said: &Said) -> Vec<&str> {
    said.complaints.iter().map(String::as_str).filter(|line| line.starts_with("refused")).collect()
}

const SIGSTOP: i32 = 19;

pub fn power_cut() {
    let cuts = count("OPTIPOD_TORTURE_CUTS", 1);
    let root = scratch();
    let library = fault::shim_for("OPTIPOD_TORTURE_CUTS", root.path());
    let of_a_life = AIMS.len() as u64;
    let ticks: i64 = each(cuts.div_ceil(of_a_life), |life| {
        let dir = root.path().join(format!("life-{life}"));
        fs::create_dir(&dir).unwrap();
        if let Some(library) = &library {
            during_migration(&dir, library, life);
        }
        live(&dir, library.as_deref(), life, of_a_life.min(cuts - life * of_a_life))
    })
    .into_iter()
    .sum();
    let migrations = if library.is_some() { cuts.div_ceil(of_a_life) } else { 0 };
    println!("{cuts} power cuts, {ticks} ticks; {migrations} more cuts of migrations");
}

/// Cuts the power while a store of version 0 is brought to today's. Oracle: as in [`migration`].
fn during_migration(root: &Path, library: &Path, life: u64) {
    let (image, copy) = (root.join("old-image"), root.join("old-copy"));
    new_image(&image).unwrap();
    let mount = Mount::image(&image, root.join("old-live")).unwrap();
    let dir = migration::old_store(mount.0.join("store"));
    run("sync", &["-f", &dir.display().to_string()]).unwrap();
    let writer = Writer::start(&dir, EACH_TICK, &aim(library, &dir, Phase::Migration, seed() + life, SIGSTOP));
    writer.wait_until("it stops in the migration", |said| said.complaint("aimed ").is_some());
    writer.wait_until_stopped();
    copy_at_rest(&image, &copy);
    let said = writer.kill();
    let after = Mount::image(&copy, root.join("old-after")).unwrap();
    let context = format!("life {life}, seed {}, {:?}", seed(), said.complaints);
    migration::assert_complete(root, &after.0.join("store"), &context);
}

/// Cuts one store's power again and again, that is: looks at what its disk holds meanwhile.
fn live(root: &Path, library: Option<&Path>, life: u64, cuts: u64) -> i64 {
    let image = root.join("image");
    new_image(&image).unwrap();
    let mount = Mount::image(&image, root.join("live")).unwrap();
    let dir = mount.0.join("store");
    let mut rng = SmallRng::seed_from_u64(seed() + life);
    let mut acked = -1;
    for (n, phase) in (0..cuts).zip(AIMS) {
        let at = phase.and_then(|phase| Some(aim(library?, &dir, phase, seed() + life, SIGSTOP)));
        let is_aimed = at.is_some();
        let writer = Writer::start(&dir, EACH_TICK, &at.unwrap_or_default());
        if is_aimed {
            writer.wait_until(&format!("it stops in {phase:?}"), |said| said.complaint("aimed ").is_some());
        } else {
            writer.wait_until("it goes on", |said| said.acked > acked);
            std::thread::sleep(Duration::from_millis(rng.random_range(0..500)));
            writer.signal("STOP");
        }
        writer.wait_until_stopped();
        // Another name each time: who entered a mount namespace of their own meanwhile keeps the last copy mounted, and its
        // file would be shown as it was.
        let copy = root.join(format!("copy-{n}"));
        copy_at_rest(&image, &copy);
        let said = writer.kill();
        acked = acked.max(said.acked);
        let after = Mount::image(&copy, root.join("after")).unwrap();
        let found = verify(&after.0.join("store"), EACH_TICK, acked);
        assert!(found.is_whole(), "cut {n} of life {life}, seed {}, {:?}: {}", seed(), said.complaints, found.said);
        drop(after);
        fs::remove_file(&copy).unwrap();
    }
    acked
}

/// The kernel may write back what a stopped process wrote, which a cut would not tear: copies until
/// nothing has changed meanwhile.
fn copy_at_rest(image: &Path, copy: &Path) {
    let is_same = || fs::read(image).unwrap() == fs::read(copy).unwrap();
    fs::copy(image, copy).unwrap();
    while !is_same() {
        fs::copy(image, copy).unwrap();
    }
}
