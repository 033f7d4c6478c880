//! Starts, watches and ends the writer, and runs the check.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A count from the environment.
pub fn count(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// One seed for a store's whole life.
pub const SEED: u64 = 7;
/// Nothing takes longer than this.
pub const PATIENCE: Duration = Duration::from_mins(2);

fn this_program() -> Command {
    Command::new(std::env::current_exe().unwrap())
}

/// A running `torture write`.
pub struct Writer {
    child: Child,
    acked: Arc<AtomicI64>,
    complaints: Arc<Mutex<Vec<String>>>,
    readers: Vec<JoinHandle<()>>,
}

impl Writer {
    /// Starts it where it stopped, with some environment variables.
    pub fn start_with(dir: &Path, containers: u32, environment: &[(&str, String)]) -> Self {
        let mut child = this_program()
            .arg("write")
            .arg(dir)
            .args(["--containers", &containers.to_string(), "--seed", &SEED.to_string()])
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (acked, complaints) = (Arc::new(AtomicI64::new(-1)), Arc::new(Mutex::new(Vec::new())));
        let (last, said) = (acked.clone(), complaints.clone());
        let out = lines(child.stdout.take().unwrap(), move |line| {
            if let Some(tick) = line.strip_prefix("acked ") {
                last.store(tick.parse().unwrap(), Ordering::SeqCst);
            }
        });
        let err = lines(child.stderr.take().unwrap(), move |line| said.lock().unwrap().push(line));
        Self { child, acked, complaints, readers: vec![out, err] }
    }

    /// The last tick that it acknowledged; -1 before the first.
    pub fn acked(&self) -> i64 {
        self.acked.load(Ordering::SeqCst)
    }

    /// What it said on its standard error.
    pub fn complaints(&self) -> Vec<String> {
        self.complaints.lock().unwrap().clone()
    }

    /// Waits until `what` is so.
    pub fn wait_until(&mut self, reason: &str, mut what: impl FnMut(&Self) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !what(self) {
            let ended = self.child.try_wait().unwrap();
            assert_eq!(ended, None, "it ended, waiting until {reason}: {:?}", self.complaints());
            assert!(Instant::now() < until, "in vain, waiting until {reason}: {:?}", self.complaints());
            std::thread::yield_now();
        }
    }

    /// Lets it write `ticks` more once `begun` is so, then kills it; where it ended before by
    /// itself, that is fine. The last tick that it acknowledged and what it said.
    pub fn run_beyond(mut self, ticks: i64, mut begun: impl FnMut(&Self) -> bool) -> (i64, Vec<String>) {
        let until = Instant::now() + PATIENCE;
        let mut target = None;
        while self.child.try_wait().unwrap().is_none() {
            if target.is_none() && begun(&self) {
                target = Some(self.acked() + ticks);
            }
            if target.is_some_and(|target| self.acked() >= target) {
                break;
            }
            assert!(Instant::now() < until, "it stands still after tick {}: {:?}", self.acked(), self.complaints());
            std::thread::sleep(Duration::from_millis(1));
        }
        let _ = self.child.kill();
        let (_, acked, said) = self.end();
        (acked, said)
    }

    /// Sends it a signal by name.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status();
        assert!(sent.unwrap().success());
    }

    /// The last tick that a stopped writer acknowledged, once all it said was read.
    pub fn settled(&self) -> i64 {
        let mut last = self.acked();
        loop {
            std::thread::sleep(Duration::from_millis(50));
            if self.acked() == last {
                return last;
            }
            last = self.acked();
        }
    }

    /// SIGKILL; the last tick that it acknowledged.
    pub fn kill(mut self) -> i64 {
        self.child.kill().unwrap();
        self.end().1
    }

    /// Waits for its end: how it ended, the last tick that it acknowledged, what it said.
    pub fn end(mut self) -> (ExitStatus, i64, Vec<String>) {
        let status = self.child.wait().unwrap();
        for reader in self.readers.drain(..) {
            reader.join().unwrap();
        }
        (status, self.acked(), self.complaints())
    }
}

fn lines(from: impl Read + Send + 'static, mut each: impl FnMut(String) + Send + 'static) -> JoinHandle<()> {
    std::thread::spawn(move || BufReader::new(from).lines().map_while(Result::ok).for_each(&mut each))
}

/// What `torture verify` said.
#[derive(Debug)]
pub struct Verified {
    /// `None` when it was ended by a signal.
    pub code: Option<i32>,
    pub last_tick: Option<i64>,
    pub wrong: u64,
    pub quarantined: u64,
    pub lost: u64,
    pub said: String,
}

/// Checks a store in a process of its own, since a check may crash.
pub fn verify(dir: &Path, acked: i64) -> Verified {
    let mut command = this_program();
    command.arg("verify").arg(dir).args(["--seed", &SEED.to_string()]);
    if acked >= 0 {
        command.args(["--acked", &acked.to_string()]);
    }
    let out = command.output().unwrap();
    let line = String::from_utf8_lossy(&out.stdout).into_owned();
    let field = |name: &str| {
        let (_, rest) = line.split_once(&format!("\"{name}\":"))?;
        rest.split([',', '}']).next()?.trim().parse::<i64>().ok()
    };
    let number = |name: &str| field(name).and_then(|n| u64::try_from(n).ok()).unwrap_or(u64::MAX);
    Verified {
        code: out.status.code(),
        last_tick: field("last_tick"),
        wrong: number("wrong"),
        quarantined: number("quarantined"),
        lost: number("lost"),
        said: line.clone() + &String::from_utf8_lossy(&out.stderr),
    }
}

/// Names of the files and folders in `dir`.
pub fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// All files of a store, by path.
pub fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries
        .flat_map(|entry| if entry.path().is_dir() { files(&entry.path()) } else { vec![entry.path()] })
        .collect();
    found.sort();
    found
}

/// Containers of most stores here: few, so that ticks are quick.
pub const CONTAINERS: u32 = 40;

/// A store with hour and 5-minute slots, some of them open, written without a fault.
pub fn prepared(root: &Path) -> PathBuf {
    let dir = root.join("original");
    let ticks = ["--ticks", "1190"]; // a seal is due with tick 1188, a roll-up with 1200
    let mut command = this_program();
    command.arg("write").arg(&dir).args(["--containers", &CONTAINERS.to_string(), "--seed", &SEED.to_string()]);
    let out = command.args(ticks).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(verify(&dir, 1189).code, Some(0));
    dir
}

pub fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
