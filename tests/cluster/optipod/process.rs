//! One OptiPod process.

use std::cell::RefCell;
use std::fmt::Display;
use std::fs::{self, File};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::SOON;
use super::install::account_of;
use crate::harness::{Cluster, Result, free_ports, log_tail, output, wait_for};

/// Kills process `$1` when its standard input ends, which the kernel sees to
/// however this test run ends.
const WATCHDOG: &str = "cat; kill -KILL \"$1\"";

const LOG_LEVEL: &str = "--log-level=info";

/// Which command of `optipod`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Recommender,
    Controller,
    /// `optipod run --apply`
    Run,
    /// `optipod run`
    RunWithoutApply,
}

impl Role {
    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Recommender => &["recommender"],
            Self::Controller => &["controller"],
            Self::Run => &["run", "--apply"],
            Self::RunWithoutApply => &["run"],
        }
    }
}

/// An OptiPod that is not running: its settings, and its folder with the store.
#[derive(Clone)]
pub struct Prepared {
    role: Role,
    name: String,
    binary: PathBuf,
    dir: PathBuf,
    kubeconfig: PathBuf,
    grpc: u16,
    metrics: u16,
    health: u16,
    flags: Vec<String>,
}

/// A running OptiPod. It is killed when this is dropped.
pub struct Optipod {
    settings: Prepared,
    child: Child,
    watchdog: Child,
}

impl Optipod {
    /// Chooses ports and a folder, and gets a token of `account`.
    pub async fn prepare(cluster: &Cluster, role: Role, account: &str) -> Result<Prepared> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("{role:?}-{}", COUNT.fetch_add(1, Ordering::Relaxed)).to_lowercase();
        let token = account_of(cluster, account).token().await?;
        let dir = cluster.dir().join(&name);
        fs::create_dir(&dir).with_context(|| format!("create {}", dir.display()))?;
        let [grpc, metrics, health] = free_ports()?;
        let kubeconfig = cluster.kubeconfig_for_token(&name, &token)?;
        let (binary, flags) = (PathBuf::from(env!("CARGO_BIN_EXE_optipod")), vec![LOG_LEVEL.to_owned()]);
        Ok(Prepared { role, name, binary, dir, kubeconfig, grpc, metrics, health, flags })
    }
}

impl Prepared {
    pub fn flag(mut self, flag: impl Into<String>) -> Self {
        self.flags.push(flag.into());
        self
    }

    /// The program of another version.
    pub fn by(self, binary: &Path) -> Self {
        Self { binary: binary.to_owned(), ..self }
    }

    /// It logs all that there is, its libraries' lines too.
    pub fn logging_everything(mut self) -> Self {
        self.flags.retain(|flag| flag != LOG_LEVEL);
        self.flag("--log-level=trace")
    }

    /// A controller asks this recommender.
    pub fn asking(self, recommender: &Optipod) -> Self {
        self.flag(recommender.recommender_flag())
    }

    /// It asks the API server as this kubeconfig says.
    pub fn with_kubeconfig(self, text: &str) -> Result<Self> {
        let kubeconfig = self.dir.join("kubeconfig");
        fs::write(&kubeconfig, text)?;
        Ok(Self { kubeconfig, ..self })
    }

    /// Its own folder.
    pub fn dir(&self) -> PathBuf {
        self.dir.clone()
    }

    /// The store's folder.
    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    fn log(&self) -> PathBuf {
        self.dir.join("optipod.log")
    }

    /// Starts it in another role, on the same store.
    pub fn start_as(self, role: Role) -> Result<Optipod> {
        Self { role, ..self }.start()
    }

    pub fn start(self) -> Result<Optipod> {
        let log = File::options().create(true).append(true).open(self.log())?;
        let child = Command::new(&self.binary)
            .args(self.role.arguments())
            .arg(format!("--grpc-addr=127.0.0.1:{}", self.grpc))
            .arg(format!("--metrics-addr=127.0.0.1:{}", self.metrics))
            .arg(format!("--health-probe-bind-address=127.0.0.1:{}", self.health))
            .arg(format!("--data-dir={}", self.data().display()))
            .args(["--scrape-interval=1s", "--max-updates-per-minute=1000"])
            .args(&self.flags)
            .env_clear()
            .envs([("KUBECONFIG", self.kubeconfig.as_os_str()), ("HOME", self.dir.as_os_str())])
            .envs([("POD_NAME", self.name.as_str()), ("RUST_BACKTRACE", "1")])
            // A variable, because an earlier version does not know the flag.
            .env("OPTIPOD_USAGE_CACHE_TTL", "1s")
            // A planted bug is one of this process, not of the test.
            .envs(std::env::var_os("OPTIPOD_PLANT").map(|plant| ("OPTIPOD_PLANT", plant)))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("start optipod")?;
        let watchdog = watch(&child)?;
        Ok(Optipod { settings: self, child, watchdog })
    }
}

fn watch(child: &Child) -> Result<Child> {
    let mut command = Command::new("sh");
    command.args(["-c", WATCHDOG, "sh", &child.id().to_string()]);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().context("start sh")
}

impl Optipod {
    /// Its name in the lease and in events begins with this.
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// Its own folder.
    pub fn dir(&self) -> PathBuf {
        self.settings.dir()
    }

    /// What it has logged so far.
    pub fn log(&self) -> Result<String> {
        Ok(fs::read_to_string(self.settings.log())?)
    }

    /// How it asks the API server, with its token.
    pub fn kubeconfig(&self) -> Result<String> {
        Ok(fs::read_to_string(&self.settings.kubeconfig)?)
    }

    /// Where it serves gRPC on loopback.
    pub fn grpc_port(&self) -> u16 {
        self.settings.grpc
    }

    /// How others find it.
    pub fn recommender_flag(&self) -> String {
        format!("--recommender-addr=http://127.0.0.1:{}", self.settings.grpc)
    }

    /// Waits until `/readyz` says yes.
    pub async fn wait_ready(&self) -> Result {
        self.wait_for("/readyz", || async {
            let (status, detail) = self.get_health("/readyz").await?;
            ensure!(status == 200, "{status}: {detail}");
            Ok(())
        })
        .await
    }

    /// Waits for what this process should bring about; its log is quoted when it
    /// does not.
    pub async fn wait_for<T, F, Fut>(&self, what: impl Display, probe: F) -> Result<T>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T>>,
    {
        let result = wait_for(what, SOON, probe).await;
        result.map_err(|error| anyhow!("{error:#}; {}", log_tail(&self.settings.log())))
    }

    /// `/healthz` or `/readyz`: the status and what it says.
    pub async fn get_health(&self, path: &str) -> Result<(u16, String)> {
        get(self.settings.health, path).await
    }

    /// All of `/metrics`.
    pub async fn metrics(&self) -> Result<String> {
        let (status, text) = get(self.settings.metrics, "/metrics").await?;
        ensure!(status == 200, "{status}: {text}");
        Ok(text)
    }

    /// The value of one series, named with its labels; `None` when it is not there.
    pub async fn metric(&self, series: &str) -> Result<Option<f64>> {
        let text = self.metrics().await?;
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.map(|value| Ok(value.parse()?)).transpose()
    }

    /// SIGKILL: no time for anything. It can be started again.
    pub fn kill(mut self) -> Prepared {
        self.end();
        self.settings.clone()
    }

    /// SIGTERM: how it ended, and after how long.
    pub async fn terminate(mut self) -> Result<(ExitStatus, Duration)> {
        let (begin, log) = (Instant::now(), self.settings.log());
        let mut kill = Command::new("kill");
        kill.args(["-TERM", &self.child.id().to_string()]);
        output(kill).await?;
        let child = RefCell::new(&mut self.child);
        let ended =
            wait_for("the end after SIGTERM", SOON, || async { child.borrow_mut().try_wait()?.context("it goes on") });
        let status = ended.await.map_err(|error| anyhow!("{error:#}; {}", log_tail(&log)))?;
        Ok((status, begin.elapsed()))
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = self.watchdog.kill();
        let _ = self.watchdog.wait();
    }
}

impl Drop for Optipod {
    fn drop(&mut self) {
        self.end();
    }
}

/// One request of HTTP/1.0, where the answer ends with the connection.
async fn get(port: u16, path: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    let status = head.split(' ').nth(1).context("no HTTP status")?;
    Ok((status.parse()?, body.trim_end().to_owned()))
}
