//! Runs a list of tests against one shared cluster.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::{LazyLock, OnceLock};
use std::time::{Duration, Instant};

use anyhow::anyhow;
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use tokio::runtime::Runtime;

use super::{Cluster, Server, binary};

/// Tests that run at a time, unless `--test-threads` says otherwise: they
/// mostly wait, and the control plane has to keep up.
const THREADS: usize = 4;
/// No test may take longer; each wait inside has a nearer deadline of its own.
const TEST_DEADLINE: Duration = Duration::from_mins(3);

/// All tests share it: a client works only as long as the runtime it came from.
static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Runtime::new().expect("the machine has threads and file descriptors"));
/// Started by the first test that runs, so that `--list` and a filter that
/// matches nothing cost nothing.
static CLUSTER: OnceLock<Option<Cluster>> = OnceLock::new();

type TestFuture = Pin<Box<dyn Future<Output = super::Result>>>;

/// A named test: an `async fn(&'static Cluster) -> harness::Result`, or a
/// contract test, an `async fn(&Server) -> harness::Result`, on one of the servers.
pub struct Test {
    name: String,
    body: Body,
    /// A variable, and what to do to have it set: without it the test is ignored.
    needs: Option<(&'static str, &'static str)>,
}

#[derive(Clone, Copy)]
enum Body {
    /// On the shared cluster; ignored where there is no control plane.
    Cluster(fn(&'static Cluster) -> TestFuture),
    /// On a double of its own, where time passes as fast as it can.
    Double(fn(Server) -> TestFuture),
}

impl Test {
    pub fn new(name: &str, body: fn(&'static Cluster) -> TestFuture) -> Self {
        Self { name: name.replace(' ', ""), body: Body::Cluster(body), needs: None }
    }

    pub fn on_double(name: &str, body: fn(Server) -> TestFuture) -> Self {
        Self { name: format!("sim::{}", name.replace(' ', "")), body: Body::Double(body), needs: None }
    }

    /// Runs only where `variable` is set; `remedy` says what sets it.
    pub fn needing(self, variable: &'static str, remedy: &'static str) -> Self {
        Self { needs: Some((variable, remedy)), ..self }
    }

    fn into_trial(self, binary: Result<PathBuf, String>) -> Trial {
        let missing = self.needs.filter(|(variable, _)| std::env::var_os(variable).is_none());
        let missing = missing.map(|(variable, remedy)| format!("needs {variable}; {remedy}"));
        Trial::ignorable_test(self.name, move || {
            if let Some(missing) = missing {
                return Ok(Completion::ignored_with(missing));
            }
            match (self.body, &binary) {
                (Body::Double(body), _) => run_on_double(body).map(|()| Completion::Completed),
                (Body::Cluster(body), Ok(binary)) => run_one(body, binary).map(|()| Completion::Completed),
                (_, Err(missing)) if binary::is_required() => Err(Failed::from(missing)),
                (_, Err(missing)) => Ok(Completion::ignored_with(missing)),
            }
        })
    }
}

/// Makes a list of tests from the paths of their functions.
macro_rules! tests {
    ($($test:path),* $(,)?) => {
        vec![$($crate::harness::Test::new(stringify!($test), |cluster| Box::pin($test(cluster)))),*]
    };
}
pub(crate) use tests;

/// As `tests!`, of contract tests: each runs on the double too, as `sim::PATH`.
macro_rules! contracts {
    ($($test:path),* $(,)?) => {
        vec![$(
            $crate::harness::Test::on_double(stringify!($test), |server| Box::pin(async move { $test(&server).await })),
            $crate::harness::Test::new(stringify!($test), |cluster| Box::pin(async move {
                $test(&$crate::harness::Server::real(cluster)).await
            })),
        )*]
    };
}
pub(crate) use contracts;

/// The whole `main` of the test binary.
pub fn run(tests: Vec<Test>) -> ExitCode {
    if std::env::args().any(|argument| argument == "--serve") {
        return serve();
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(THREADS);
    let binary = binary::find();
    let trials = tests.into_iter().map(|test| test.into_trial(binary.clone()));
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    if let Some(Some(cluster)) = CLUSTER.get() {
        cluster.stop(conclusion.has_failed());
        if conclusion.has_failed() {
            eprintln!("the cluster's logs: {}", cluster.dir().display());
        }
    }
    conclusion.exit_code()
}

/// Keeps a cluster for a person, until Ctrl-C.
fn serve() -> ExitCode {
    let served = RUNTIME.block_on(async {
        let cluster = Cluster::start_private().await?;
        println!("export KUBECONFIG={}", cluster.kubeconfig_path().display());
        println!("kubectl is: tests/controlplane/bin/controlplane kubectl");
        println!("Ctrl-C ends the cluster");
        tokio::signal::ctrl_c().await?;
        cluster.stop(false);
        super::Result::Ok(())
    });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The shared cluster. Only the test that started it in vain tells why.
fn shared(binary: &Path) -> Result<&'static Cluster, Failed> {
    let mut reason = "the shared cluster did not start; the first failed test tells why".to_owned();
    let cluster = CLUSTER.get_or_init(|| {
        let begin = Instant::now();
        let cluster = RUNTIME.block_on(Cluster::start(binary));
        let cluster = cluster.inspect_err(|error| {
            reason = format!("the shared cluster did not start: {error:#}");
        });
        eprintln!("control plane up after {:.1?}", begin.elapsed());
        cluster.ok()
    });
    cluster.as_ref().ok_or_else(|| Failed::from(reason))
}

fn run_one(body: fn(&'static Cluster) -> TestFuture, binary: &Path) -> Result<(), Failed> {
    let cluster = shared(binary)?;
    RUNTIME.block_on(bounded(body(cluster)))
}

fn run_on_double(body: fn(Server) -> TestFuture) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?;
    runtime.block_on(async {
        let server = Server::double().map_err(|error| Failed::from(format!("{error:#}")))?;
        bounded(body(server)).await
    })
}

async fn bounded(test: TestFuture) -> Result<(), Failed> {
    let timed_out = |_| Err(anyhow!("the test took longer than {TEST_DEADLINE:?}"));
    let outcome = tokio::time::timeout(TEST_DEADLINE, test).await.unwrap_or_else(timed_out);
    outcome.map_err(|error| Failed::from(format!("{error:#}")))
}
