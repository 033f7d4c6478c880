//! Prometheus and VictoriaMetrics as child processes, filled with what [`data`](super::data) made.

use super::super::harness::{Program, Result, free_address, http, poll};
use super::data::{self, Written};
use anyhow::{Context as _, ensure};
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

/// Which program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Prometheus,
    VictoriaMetrics,
}

impl Kind {
    pub const ALL: [Self; 2] = [Self::Prometheus, Self::VictoriaMetrics];

    pub fn name(self) -> &'static str {
        match self {
            Self::Prometheus => "prometheus",
            Self::VictoriaMetrics => "victoria_metrics",
        }
    }

    pub fn programs(self) -> &'static [&'static str] {
        match self {
            Self::Prometheus => &["prometheus", "promtool"],
            Self::VictoriaMetrics => &["victoria-metrics"],
        }
    }
}

/// A running program with its folder.
pub struct Server {
    pub program: Program,
    _folder: tempfile::TempDir,
}

/// The day that all tests share, and who serves it.
pub struct Shared {
    pub written: Written,
    pub url: String,
    _server: Server,
}

static SHARED: [Mutex<Option<Arc<Shared>>>; 2] = [Mutex::new(None), Mutex::new(None)];

const SEED: u64 = 20_251_126;

/// The shared server, started by the first test that asks for it.
pub fn shared(kind: Kind) -> Result<Arc<Shared>> {
    let mut slot = SHARED[kind as usize].lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(shared) = &*slot {
        return Ok(shared.clone());
    }
    let shared = Arc::new(serving(kind, 15)?);
    *slot = Some(shared.clone());
    Ok(shared)
}

/// A server of a day with a scrape each so many seconds.
pub fn serving(kind: Kind, scrape: i64) -> Result<Shared> {
    let written = data::day(SEED, scrape);
    let server = start(kind, &written, &[])?;
    Ok(Shared { written, url: server.program.url(), _server: server })
}

/// Ends the shared servers.
pub fn stop() {
    for slot in &SHARED {
        slot.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// Starts a program with these samples and more flags.
pub fn start(kind: Kind, written: &Written, more: &[String]) -> Result<Server> {
    let server = start_with(kind, more, |folder| backfill(folder, written))?;
    let text = if kind == Kind::VictoriaMetrics { written.text(1000) } else { String::new() };
    if !text.is_empty() {
        http(server.program.address, "POST", "/api/v1/import/prometheus", text.as_bytes())?;
        http(server.program.address, "GET", "/internal/force_flush", b"")?;
    }
    Ok(server)
}

/// Starts a program with more flags; `fill` writes Prometheus' blocks before.
pub fn start_with(kind: Kind, more: &[String], fill: impl FnOnce(&Path) -> Result) -> Result<Server> {
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name);
    let address = free_address()?;
    if kind == Kind::Prometheus {
        std::fs::write(path("config.yml"), "{}\n")?;
        fill(folder.path())?;
    }
    let mut arguments = match kind {
        Kind::Prometheus => vec![
            "prometheus".to_owned(),
            format!("--config.file={}", path("config.yml").display()),
            format!("--storage.tsdb.path={}", path("data").display()),
            "--storage.tsdb.retention.time=100y".to_owned(),
            format!("--web.listen-address={address}"),
        ],
        Kind::VictoriaMetrics => vec![
            "victoria-metrics".to_owned(),
            format!("-storageDataPath={}", path("data").display()),
            "-retentionPeriod=100y".to_owned(),
            format!("-httpListenAddr={address}"),
        ],
    };
    arguments.extend_from_slice(more);
    let program = Program::start(&arguments, address, &path("log"))?;
    if kind == Kind::Prometheus && more.is_empty() {
        poll(|| http(address, "GET", "/-/ready", b"")).with_context(|| program.log_tail())?;
    }
    Ok(Server { program, _folder: folder })
}

/// `promtool` makes blocks from OpenMetrics.
fn backfill(folder: &Path, written: &Written) -> Result {
    let text = written.text(1);
    if text.is_empty() {
        return Ok(());
    }
    let input = folder.join("samples.om");
    let mut file = std::fs::File::create(&input)?;
    file.write_all(text.as_bytes())?;
    file.write_all(b"# EOF\n")?;
    let mut promtool = Command::new("promtool");
    promtool.args(["tsdb", "create-blocks-from", "openmetrics"]).arg(&input).arg(folder.join("data"));
    let output = promtool.output()?;
    ensure!(output.status.success(), "promtool: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
