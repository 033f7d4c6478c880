//! One component of the control plane: a child process with its log.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, bail, ensure};

use super::Result;

/// As much of a log as a test's failure quotes.
const TAIL_LINES: usize = 15;

/// Which component; also the first argument of the binary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    Etcd,
    ApiServer,
    ControllerManager,
    Scheduler,
    Kwok,
    MetricsServer,
}

impl Name {
    pub fn argument(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "apiserver",
            Self::ControllerManager => "controller-manager",
            Self::Scheduler => "scheduler",
            Self::Kwok => "kwok",
            Self::MetricsServer => "metrics-server-fast",
        }
    }
}

pub struct Component {
    pub name: Name,
    binary: PathBuf,
    flags: Vec<String>,
    log: PathBuf,
    child: Option<Child>,
}

impl Component {
    pub fn new(name: Name, binary: &Path, flags: Vec<String>, dir: &Path) -> Self {
        Self { name, binary: binary.to_owned(), flags, log: dir.join(format!("{}.log", name.argument())), child: None }
    }

    /// Starts the process. It ends with us, however we end: it watches the
    /// pipe that is its standard input, which the kernel closes even after
    /// SIGKILL.
    pub fn start(&mut self) -> Result {
        let log = File::options().create(true).append(true).open(&self.log);
        let log = log.with_context(|| format!("open {}", self.log.display()))?;
        let child = Command::new(&self.binary)
            .arg(self.name.argument())
            .args(&self.flags)
            .current_dir(self.log.parent().unwrap_or(Path::new(".")))
            .env("CONTROLPLANE_EXIT_WITH_STDIN", "1")
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {}", self.binary.display()))?;
        self.child = Some(child);
        Ok(())
    }

    /// An error with the end of the log when the process is not running.
    pub fn check(&mut self) -> Result {
        let name = self.name;
        match self.child.as_mut().map(Child::try_wait) {
            Some(Ok(None)) => Ok(()),
            Some(Ok(Some(status))) => bail!("{name:?} ended with {status}; {}", self.log_tail()),
            Some(Err(error)) => bail!("{name:?} cannot be waited for: {error}"),
            None => bail!("{name:?} was not started"),
        }
    }

    pub fn log_tail(&self) -> String {
        log_tail(&self.log)
    }

    /// Kills the process and waits for its end. Nothing it holds is worth a
    /// clean exit.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Component {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The last lines of a log, and where all of it is.
pub fn log_tail(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let tail = &lines[lines.len().saturating_sub(TAIL_LINES)..];
    format!("end of {}:\n{}", log.display(), tail.join("\n"))
}

/// What a command prints; its error output when it fails.
pub async fn output(mut command: Command) -> Result<String> {
    let finished = tokio::task::spawn_blocking(move || {
        let output = command.stdin(Stdio::null()).output();
        output.with_context(|| format!("start {}", command.get_program().display()))
    });
    let output = finished.await??;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "it ended with {}: {errors}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}
