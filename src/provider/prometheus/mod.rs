//! Any server that answers PromQL: Prometheus, VictoriaMetrics, Thanos, Mimir.
//!
//! A question about a namespace becomes a few about its pods and slices of time, never one about each container, and
//! their values are pooled here. It may not know policies. Invariant: what cannot be told is said (`notes`), and never
//! made up.
//!
//! | where | what |
//! |---|---|
//! | `promql` | the questions; `grid`: the moments they are about |
//! | `client`, `secrets` | HTTP, TLS, credentials |
//! | `answer` | reading answers |
//! | `owners`, `names` | from a pod to its workload |
//! | `pool` | from values to an answer |
//! | `ask` | the questions about a namespace, in order |
//! | `history` | values one by one, for filling a store |

mod answer;
mod ask;
mod client;
mod grid;
mod history;
mod names;
mod owners;
mod pool;
mod promql;
mod secrets;

pub use history::{History, PodHistory, UsagePoint};
pub use promql::{Matcher, MatcherError};

use super::{LateProvider, ProviderError, UsageProvider, UsageQuery};
use crate::clock::Clock;
use crate::usage::{SeriesKey, WindowUsage};
use ask::Namespace;
use client::Client;
use futures::{StreamExt as _, stream};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Small namespaces mostly wait for the server; large ones take memory, so that few are asked about at once.
const NAMESPACES_AT_ONCE: usize = 2;

/// The name that policies use.
pub const NAME: &str = "prometheus";

/// Which server, and how it is asked. It has no `Debug`: headers may hold what should not be seen.
#[derive(Clone)]
pub struct PrometheusOptions {
    /// Where it answers, without `/api/v1`: `http://prometheus.monitoring:9090`, or of Mimir `https://mimir/prometheus`.
    pub url: String,
    /// A file with a bearer token.
    pub bearer_token_file: Option<PathBuf>,
    /// The user of basic authentication.
    pub basic_auth_user: Option<String>,
    /// A file with that user's password.
    pub basic_auth_password_file: Option<PathBuf>,
    /// A file with the certificates (PEM) of the authorities to trust, in place of the system's.
    pub ca_file: Option<PathBuf>,
    /// A file with the client's certificate chain (PEM).
    pub cert_file: Option<PathBuf>,
    /// A file with the client's private key (PEM).
    pub key_file: Option<PathBuf>,
    /// Headers for each request, such as `X-Scope-OrgID`.
    pub headers: BTreeMap<String, String>,
    /// Conditions on every series, such as the cluster's label.
    pub matchers: Vec<Matcher>,
    /// The deadline of one request.
    pub timeout: Duration,
    /// Requests under way at once, over all questions.
    pub max_concurrency: usize,
}

impl PrometheusOptions {
    /// Asks the server at `url` without credentials; 30 s a request, 4 at once.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            bearer_token_file: None,
            basic_auth_user: None,
            basic_auth_password_file: None,
            ca_file: None,
            cert_file: None,
            key_file: None,
            headers: BTreeMap::new(),
            matchers: Vec::new(),
            timeout: Duration::from_secs(30),
            max_concurrency: 4,
        }
    }
}

/// Asks a server that speaks PromQL.
pub struct PrometheusProvider {
    client: Client,
    matchers: Vec<Matcher>,
    clock: Clock,
}

impl PrometheusProvider {
    /// Connects with the first question. Files are read then, and again with each question.
    ///
    /// # Errors
    /// [`ProviderError::Refused`] where the options cannot be used.
    pub fn new(options: PrometheusOptions, clock: Clock) -> Result<Self, ProviderError> {
        let matchers = options.matchers.clone();
        let client =
            Client::new(options).map_err(|cause| ProviderError::Refused { provider: NAME.to_owned(), cause })?;
        Ok(Self { client, matchers, clock })
    }

    /// The same as a provider in any case: where the options cannot be used, one that answers why. Files that cannot be
    /// used are logged now, and tried again with each question.
    pub fn start(options: PrometheusOptions, clock: Clock) -> Arc<dyn UsageProvider> {
        Arc::new(LateProvider::new(NAME, move || {
            let provider = Arc::new(Self::new(options.clone(), clock)?);
            if let Err(error) = provider.check_files() {
                tracing::error!(%error, "policies that use Prometheus get nothing until this is mended");
            }
            Ok(provider)
        }))
    }

    /// Whether the files with credentials can be used now; nothing is asked.
    ///
    /// # Errors
    /// [`ProviderError::Refused`], naming the file.
    pub fn check_files(&self) -> Result<(), ProviderError> {
        self.client.check().map_err(|failure| self.client.error(failure))
    }

    fn namespace(&self, name: &str) -> Namespace<'_> {
        Namespace::new(&self.client, name, &self.matchers)
    }
}

#[async_trait::async_trait]
impl UsageProvider for PrometheusProvider {
    fn name(&self) -> &str {
        NAME
    }

    async fn usage(&self, queries: &[UsageQuery]) -> Result<Vec<Option<WindowUsage>>, ProviderError> {
        let mut asked: BTreeMap<(Duration, &str), BTreeSet<&SeriesKey>> = BTreeMap::new();
        for UsageQuery { series, window } in queries {
            asked.entry((*window, &series.workload.namespace)).or_default().insert(series);
        }
        let now = self.clock.now();
        // A loop, because a closure here is not general enough for the compiler.
        let mut asking = Vec::new();
        for ((window, namespace), series) in &asked {
            asking.push(async move { (*window, self.namespace(namespace).usage(series, *window, now).await) });
        }
        let mut answered = stream::iter(asking).buffered(NAMESPACES_AT_ONCE);
        let mut answers: BTreeMap<(Duration, &SeriesKey), WindowUsage> = BTreeMap::new();
        while let Some((window, usage)) = answered.next().await {
            let usage = usage.map_err(|failure| self.client.error(failure))?;
            answers.extend(usage.into_iter().map(|(series, usage)| ((window, series), usage)));
        }
        Ok(queries.iter().map(|query| answers.get(&(query.window, &query.series)).cloned()).collect())
    }
}
