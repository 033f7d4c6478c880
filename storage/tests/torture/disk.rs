//! A full disk, and a power cut. Both need root and file systems of their own.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::driver::{CONTAINERS, Writer, count, verify};
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
    let root = tempfile::tempdir().unwrap();
    let mount = Mount::tmpfs(root.path().join("small")).unwrap();
    let (dir, ballast) = (mount.0.join("store"), mount.0.join("ballast"));
    let mut writer = Writer::start_with(&dir, CONTAINERS, &[]);
    for round in 0..3 {
        writer.wait_until("it goes on", |w| w.acked() > 300 * round);
        fill(&ballast);
        let before = writer.complaints().len();
        writer.wait_until("a tick is refused", |w| refused(w).len() > 2 && w.complaints().len() > before);
        let stuck = writer.acked();
        let clear = refused(&writer).iter().all(|line| line.contains("No space left") || line.contains("is not full"));
        assert!(clear, "unclear: {:?}", refused(&writer));
        fs::remove_file(&ballast).unwrap();
        writer.wait_until("it resumes", |w| w.acked() > stuck + 200);
    }
    fill(&ballast);
    let before = refused(&writer).len();
    writer.wait_until("a tick is refused", |w| refused(w).len() > before);
    let acked = writer.kill();
    // Opened while the disk is full it may refuse, but it must not take this for damage.
    let full = verify(&dir, acked);
    assert!(matches!(full.code, Some(0 | 1)), "while full: {}", full.said);
    fs::remove_file(&ballast).unwrap();
    let found = verify(&dir, acked);
    assert_eq!(
        (found.code, found.lost, found.quarantined),
        (Some(0), 0, 0),
        "{}\nwhile full: {}",
        found.said,
        full.said
    );
    println!("4 times full, {acked} ticks; opened while full: {}", full.said.lines().next().unwrap_or_default());
}

fn refused(writer: &Writer) -> Vec<String> {
    writer.complaints().into_iter().filter(|line| line.starts_with("refused")).collect()
}

pub fn power_cut() {
    let cuts = count("OPTIPOD_TORTURE_CUTS", 1);
    let root = tempfile::tempdir().unwrap();
    let (image, copy) = (root.path().join("image"), root.path().join("copy"));
    new_image(&image).unwrap();
    let mount = Mount::image(&image, root.path().join("live")).unwrap();
    let dir = mount.0.join("store");
    let mut rng = SmallRng::seed_from_u64(2);
    let mut writer = Writer::start_with(&dir, CONTAINERS, &[]);
    let mut acked = 100;
    for cut in 0..cuts {
        writer.wait_until("it goes on", |w| w.acked() > acked);
        std::thread::sleep(Duration::from_millis(rng.random_range(0..500)));
        writer.signal("STOP");
        // All that it said before it was stopped has been read when no more comes.
        acked = writer.settled();
        fs::copy(&image, &copy).unwrap();
        writer.signal("CONT");
        let after = Mount::image(&copy, root.path().join("after")).unwrap();
        let found = verify(&after.0.join("store"), acked);
        assert_eq!((found.code, found.lost, found.quarantined), (Some(0), 0, 0), "cut {cut}: {}", found.said);
    }
    let acked = writer.kill();
    println!("{cuts} power cuts, {acked} ticks");
}
