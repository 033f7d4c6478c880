//! A served store behind a door, and callers.

use super::methods::{METHODS, Method};
use super::pki::{Authority, Pair};
use super::reviews::Reviews;
use optipod::api::{Api, Door, DoorOptions, TlsFiles, serve_guarded};
use optipod::clock::Clock;
use optipod::provider::{Line, Target};
use optipod::telemetry::Metrics;
use optipod_storage::{Store, StoreOptions, Timestamp};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

/// Nothing here takes longer.
pub const SOON: Duration = Duration::from_secs(20);

pub struct Stage {
    dir: tempfile::TempDir,
    pub ca: PathBuf,
    pub address: String,
    pub door: Door,
    pub reviews: Reviews,
    pub metrics: Metrics,
    shutdown: CancellationToken,
    server: JoinHandle<()>,
    _store: tempfile::TempDir,
}

/// How a server differs from one that takes tokens for the audience `optipod`.
#[derive(Default)]
pub struct Kind {
    /// Certificates by an authority of this name and for this client count.
    pub client_ca: Option<Authority>,
    pub client_names: Vec<&'static str>,
    pub no_tokens: bool,
    pub requests_per_second: Option<u32>,
    pub clock: Option<Clock>,
}

impl Stage {
    pub async fn new(kind: Kind) -> Self {
        let (dir, store_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let authority = Authority::new("servers");
        let ca = authority.write(dir.path(), "ca.crt");
        let (cert, key) = authority.serving(dir.path(), "tls");
        let client_ca = kind.client_ca.map(|authority| authority.write(dir.path(), "client-ca.crt"));
        let (reviews, metrics) = (Reviews::default(), Metrics::new().unwrap());
        let door = Door::new(DoorOptions {
            files: TlsFiles { cert, key, client_ca },
            client_names: kind.client_names.iter().map(ToString::to_string).collect::<BTreeSet<_>>(),
            tokens: (!kind.no_tokens).then(|| (reviews.client(), "optipod".to_owned())),
            requests_per_second: kind.requests_per_second.unwrap_or(1000),
            clock: kind.clock.unwrap_or_else(Clock::system),
            metrics: metrics.door().clone(),
        })
        .unwrap();
        let now = Timestamp(Clock::system().now().as_millisecond());
        let store = Arc::new(Store::open(store_dir.path(), StoreOptions::default(), now).unwrap());
        let api = Api::new(store, Clock::system(), Duration::from_hours(24));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("https://{}", listener.local_addr().unwrap());
        let shutdown = CancellationToken::new();
        let serving = serve_guarded(listener, api, door.clone(), shutdown.clone());
        let server = tokio::spawn(async move { serving.await.unwrap() });
        Self { dir, ca, address, door, reviews, metrics, shutdown, server, _store: store_dir }
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The server, trusted, by a caller who shows nothing yet.
    pub fn target(&self) -> Target {
        Target { ca_file: Some(self.ca.clone()), ..Target::new(self.address.as_str()) }
    }

    /// A caller with this token.
    pub fn with_token(&self, token: &str) -> Line {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let file = self.dir().join(format!("token-{}", COUNT.fetch_add(1, Ordering::Relaxed)));
        std::fs::write(&file, token).unwrap();
        Target { token_file: Some(file), ..self.target() }.lazy().unwrap()
    }

    /// A caller with this certificate.
    pub fn with_certificate(&self, identity: Pair) -> Line {
        Target { identity: Some(identity), ..self.target() }.lazy().unwrap()
    }

    /// A caller who shows nothing.
    pub fn nobody(&self) -> Line {
        self.target().lazy().unwrap()
    }

    /// How many calls and connections were refused for a reason.
    pub fn refused(&self, reason: &str) -> u64 {
        let line = format!("optipod_grpc_refused_total{{reason=\"{reason}\"}} ");
        let text = self.metrics.encode().unwrap();
        text.lines().find_map(|l| l.strip_prefix(&line)).expect("the metric").parse().unwrap()
    }

    pub async fn end(self) {
        self.shutdown.cancel();
        tokio::time::timeout(SOON, self.server).await.expect("the server ends").unwrap();
    }
}

/// Calls one method within a bound.
pub async fn call(method: Method, line: &Line) -> Status {
    tokio::time::timeout(SOON, method.call(line.clone())).await.expect("an answer")
}

/// The codes of all methods, in the order of [`METHODS`].
pub async fn codes(line: &Line) -> Vec<Code> {
    let mut codes = Vec::new();
    for method in METHODS {
        codes.push(call(method, line).await.code());
    }
    codes
}

/// What a caller who is let in everywhere gets.
pub fn all_passed() -> Vec<Code> {
    METHODS.iter().map(|method| method.passed()).collect()
}

/// `code` from every method but health, which is open.
pub fn only_health(code: Code) -> Vec<Code> {
    METHODS.iter().map(|method| if *method == Method::Health { Code::Ok } else { code }).collect()
}
