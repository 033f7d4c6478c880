//! How tests are named, run and bounded, and how programs are started for them.

use anyhow::{Context as _, bail, ensure};
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// What a test returns: `Err` fails it, with the whole chain of causes.
pub type Result<T = ()> = anyhow::Result<T>;

pub type TestFuture = Pin<Box<dyn Future<Output = Result>>>;

/// No test may take longer.
const TEST_DEADLINE: Duration = Duration::from_mins(3);

/// A test that needs nothing but itself.
pub fn test(name: &str, body: impl FnOnce() -> TestFuture + Send + 'static) -> Trial {
    Trial::test(name.replace(' ', ""), move || run_one(body()))
}

/// A test that needs programs; `install` is the command that brings them.
pub fn test_with(
    name: &str,
    programs: &'static [&'static str],
    install: &str,
    body: impl FnOnce() -> TestFuture + Send + 'static,
) -> Trial {
    let missing: Vec<&str> = programs.iter().filter(|name| find(name).is_none()).copied().collect();
    let text = format!("{} not found: {install}", missing.join(", "));
    Trial::ignorable_test(name.replace(' ', ""), move || match missing.is_empty() {
        true => run_one(body()).map(|()| Completion::Completed),
        false if std::env::var_os("OPTIPOD_REQUIRE_CLUSTER").is_some_and(|value| value == "1") => Err(text.into()),
        false => Ok(Completion::ignored_with(text)),
    })
}

fn run_one(body: TestFuture) -> std::result::Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(async { tokio::time::timeout(TEST_DEADLINE, body).await });
    ended.map_err(|_| Failed::from("it took too long"))?.map_err(|error| Failed::from(format!("{error:#}")))
}

/// The whole `main` of the test binary.
pub fn run(tests: Vec<Trial>) -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(2);
    libtest_mimic::run(&arguments, tests).exit_code()
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// A child process that listens on a port. It ends with us, however we end: a shell waits for the end of its standard
/// input, which the kernel closes even after SIGKILL, and then kills it.
pub struct Program {
    shell: Child,
    log: PathBuf,
    pub address: SocketAddr,
}

impl Program {
    /// Starts a program and waits until it accepts connections.
    pub fn start(arguments: &[String], address: SocketAddr, log: &Path) -> Result<Self> {
        let file = File::create(log)?;
        let shell = Command::new("sh")
            .args(["-c", r#""$@" & program=$!; read -r _; kill -9 "$program""#, "sh"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("start {arguments:?}"))?;
        let program = Self { shell, log: log.to_owned(), address };
        let listens = || TcpStream::connect_timeout(&address, Duration::from_secs(1)).map(drop);
        poll(listens).with_context(|| format!("{arguments:?}: {}", program.log_tail()))?;
        Ok(program)
    }

    pub fn log_tail(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}

/// Tries until it succeeds, for a minute at most.
pub fn poll<T, E: std::fmt::Display>(mut attempt: impl FnMut() -> std::result::Result<T, E>) -> Result<T> {
    let deadline = Instant::now() + Duration::from_mins(1);
    loop {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() > deadline => bail!("not within a minute: {error}"),
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// A loopback address that was free just now.
pub fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// The body of what a server answers with 2xx.
pub fn http(address: SocketAddr, method: &str, path: &str, body: &[u8]) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_mins(1)))?;
    write!(stream, "{method} {path} HTTP/1.0\r\nHost: test\r\nContent-Length: {}\r\n\r\n", body.len())?;
    stream.write_all(body)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no answer")?;
    ensure!(head.split(' ').nth(1).is_some_and(|status| status.starts_with('2')), "{path}: {answer}");
    Ok(body.to_owned())
}
