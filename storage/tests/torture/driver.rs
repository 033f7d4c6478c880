//! Starts, watches and ends the writer, and runs the check.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::trials::seed;

/// Nothing takes longer than this.
const PATIENCE: Duration = Duration::from_mins(2);

/// Containers of all stores here: few, so that ticks are quick.
const CONTAINERS: &str = "40";

/// Options of `torture`: which ticks are written.
pub type Options<'a> = &'a [&'a str];

/// Each tick from the first one on.
pub const EACH_TICK: Options<'static> = &[];

fn this_program(command: &str, dir: &Path, options: Options<'_>) -> Command {
    let mut program = Command::new(std::env::current_exe().unwrap());
    program.arg(command).arg(dir).args(["--seed", &seed().to_string()]).args(options);
    program
}

/// What a writer has said so far.
#[derive(Clone, Debug)]
pub struct Said {
    /// The last tick that it acknowledged; -1 before the first.
    pub acked: i64,
    /// The lines of its standard error.
    pub complaints: Vec<String>,
    /// Its outputs that are still open: none once it has ended.
    open: u32,
}

impl Said {
    pub fn is_over(&self) -> bool {
        self.open == 0
    }

    /// The first complaint that begins so.
    pub fn complaint(&self, prefix: &str) -> Option<&str> {
        self.complaints.iter().map(String::as_str).find(|line| line.starts_with(prefix))
    }
}

type Shared = Arc<(Mutex<Said>, Condvar)>;

/// A running `torture write`.
pub struct Writer {
    child: Child,
    said: Shared,
    readers: Vec<JoinHandle<()>>,
}

impl Writer {
    /// Starts it where it stopped, with some environment variables.
    pub fn start(dir: &Path, options: Options<'_>, environment: &[(&str, String)]) -> Self {
        let mut child = this_program("write", dir, options)
            .args(["--containers", CONTAINERS])
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = Said { acked: -1, complaints: Vec::new(), open: 2 };
        let said: Shared = Arc::new((Mutex::new(said), Condvar::new()));
        let out = lines(child.stdout.take().unwrap(), said.clone(), |said, line| {
            if let Some(tick) = line.strip_prefix("acked ") {
                said.acked = tick.parse().unwrap();
            }
        });
        let err = lines(child.stderr.take().unwrap(), said.clone(), |said, line| said.complaints.push(line));
        Self { child, said, readers: vec![out, err] }
    }

    /// What it has said so far.
    pub fn said(&self) -> Said {
        self.said.0.lock().unwrap().clone()
    }

    /// Waits until `what` is so.
    pub fn wait_until(&self, reason: &str, what: impl Fn(&Said) -> bool) {
        let waits = |said: &mut Said| !what(said) && !said.is_over();
        let (said, late) = {
            let said = self.said.0.lock().unwrap();
            let (said, late) = self.said.1.wait_timeout_while(said, PATIENCE, waits).unwrap();
            (Said::clone(&said), late)
        };
        assert!(!late.timed_out(), "in vain, waiting until {reason}: {said:?}");
        assert!(what(&said), "it ended, waiting until {reason}: {said:?}");
    }

    /// Waits until `what` is so and lets it write `ticks` more, as far as it does not end before;
    /// what it said.
    pub fn run_beyond(self, ticks: i64, what: impl Fn(&Said) -> bool) -> Said {
        self.wait_until("it begins", |said| said.is_over() || what(said));
        let end = self.said().acked + ticks;
        self.wait_until("it goes on", |said| said.is_over() || said.acked >= end);
        self.kill()
    }

    /// Sends it a signal by name.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status();
        assert!(sent.unwrap().success());
    }

    /// Waits until a signal has stopped it.
    pub fn wait_until_stopped(&self) {
        let stat = format!("/proc/{}/stat", self.child.id());
        let is_stopped = || std::fs::read_to_string(&stat).unwrap().contains(") T ");
        while !is_stopped() {
            std::thread::yield_now();
        }
    }

    /// SIGKILL, unless it ended before; all that it said.
    pub fn kill(mut self) -> Said {
        self.end();
        self.said()
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.end();
    }
}

/// Notes each line; that there is no more in the end.
fn lines(
    from: impl Read + Send + 'static,
    to: Shared,
    note: impl Fn(&mut Said, String) + Send + 'static,
) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            note(&mut to.0.lock().unwrap(), line);
            to.1.notify_all();
        }
        to.0.lock().unwrap().open -= 1;
        to.1.notify_all();
    })
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

impl Verified {
    /// Everything is there and right, and nothing was damaged.
    pub fn is_whole(&self) -> bool {
        (self.code, self.lost, self.quarantined) == (Some(0), 0, 0)
    }
}

/// Checks a store in a process of its own, since a check may crash.
pub fn verify(dir: &Path, options: Options<'_>, acked: i64) -> Verified {
    let mut command = this_program("verify", dir, options);
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

/// What a store answers, or how it failed.
pub fn tell(dir: &Path, environment: &[(&str, String)]) -> String {
    let mut command = this_program("tell", dir, EACH_TICK);
    let out = command.envs(environment.iter().map(|(name, value)| (name, value))).output().unwrap();
    String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr)
}

/// A store of so many ticks, written without a fault.
pub fn prepared(dir: PathBuf, options: Options<'_>, ticks: i64) -> PathBuf {
    let mut command = this_program("write", &dir, options);
    let out = command.args(["--containers", CONTAINERS, "--ticks", &ticks.to_string()]).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let found = verify(&dir, options, ticks - 1);
    assert!(found.is_whole(), "{}", found.said);
    dir
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
