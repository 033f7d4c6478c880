//! Step one: one LIST of everything that metrics-server knows.
//!
//! CPU is the average over the point's window in cores, memory the working set in bytes, both at the point's own
//! timestamp. A pod without points is absent; absence is not zero.
//!
//! Asked for as Kubernetes protobuf, which takes a fifth of the time to read; a server that speaks JSON only answers JSON.

mod json;
mod protobuf;
mod wire;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)] // a test that panics has failed
mod tests;

pub use json::decode_json;
pub use protobuf::decode_protobuf;

use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use jiff::Timestamp;
use kube::client::Body;
use serde::Deserialize;
use std::borrow::Cow;
use std::pin::pin;
use std::time::Duration;

/// The name of this source in `optipod_metrics_collection_duration_seconds`.
pub(super) const PROVIDER: &str = "metrics-server";

/// More than a million containers need.
const LARGEST_BODY: usize = 1 << 30;

const PATH: &str = "/apis/metrics.k8s.io/v1beta1/pods";

/// What the list must say it is.
const KIND: &str = "PodMetricsList";

const JSON: &str = "application/json";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const PROTOBUF_OR_JSON: &str = "application/vnd.kubernetes.protobuf,application/json";

/// Why there are no points.
#[derive(Debug, thiserror::Error)]
pub enum ScrapeError {
    /// No answer within the time allowed.
    #[error("metrics-server did not answer within {0:?}; check its pods and the APIService v1beta1.metrics.k8s.io")]
    Timeout(Duration),
    /// The API server answered with an error.
    #[error("the API server refused to list pod metrics: {message} (HTTP {code}); {advice}")]
    Refused {
        /// The HTTP status.
        code: u16,
        /// What the API server said.
        message: String,
        /// What to do about it.
        advice: &'static str,
    },
    /// The connection failed.
    #[error("cannot reach the API server for pod metrics: {0}; check the network and the kubeconfig")]
    Unreachable(String),
    /// The answer is not a PodMetricsList.
    #[error("metrics-server's answer cannot be read as a PodMetricsList: {0}; check its version")]
    Malformed(String),
}

impl ScrapeError {
    fn other_kind(kind: &str) -> Self {
        Self::Malformed(format!("its kind is \"{kind}\""))
    }
}

/// The points of one pod's containers.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct PodPoints<'a> {
    /// The pod's namespace.
    pub namespace: Cow<'a, str>,
    /// The pod's name.
    pub pod: Cow<'a, str>,
    /// When it was measured; `None` where the answer carries no valid time.
    pub at: Option<Timestamp>,
    /// One for each container.
    pub containers: Vec<ContainerPoint<'a>>,
}

/// One container's point.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct ContainerPoint<'a> {
    /// The container's name.
    pub name: Cow<'a, str>,
    /// Cores; `None` where the answer carries no valid amount.
    pub cpu: Option<f64>,
    /// Bytes; `None` where the answer carries no valid amount.
    pub memory: Option<f64>,
}

impl PodPoints<'_> {
    fn clear(&mut self) {
        let mut containers = std::mem::take(&mut self.containers);
        containers.clear();
        *self = Self { containers, ..Self::default() };
    }
}

/// How a list is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// `application/vnd.kubernetes.protobuf`
    Protobuf,
    /// `application/json`
    Json,
}

impl Format {
    /// What the server says that it wrote; JSON where it says nothing that we know.
    fn of(headers: &HeaderMap) -> Self {
        let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        if essence.eq_ignore_ascii_case(PROTOBUF) { Self::Protobuf } else { Self::Json }
    }
}

/// The list as it came.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RawList {
    /// How `body` is written.
    pub format: Format,
    /// The undecoded list.
    pub body: Vec<u8>,
}

impl RawList {
    /// Calls `each` with every pod of the list; how many there are. On an error it may have been called before.
    pub fn decode<'a>(&'a self, each: impl FnMut(&PodPoints<'a>)) -> Result<usize, ScrapeError> {
        match self.format {
            Format::Protobuf => decode_protobuf(&self.body, each),
            Format::Json => decode_json(&self.body, each),
        }
    }
}

/// Fetches the list, undecoded, within `timeout`.
pub async fn fetch(client: &kube::Client, timeout: Duration) -> Result<RawList, ScrapeError> {
    let fetching = async {
        match list(client, PROTOBUF_OR_JSON).await {
            // A server whose types have no protobuf form may offer it all the same, and then cannot write it.
            Err(ScrapeError::Refused { code: 406, .. }) => list(client, JSON).await,
            answer => answer,
        }
    };
    tokio::time::timeout(timeout, fetching).await.unwrap_or(Err(ScrapeError::Timeout(timeout)))
}

async fn list(client: &kube::Client, accept: &str) -> Result<RawList, ScrapeError> {
    let unreachable = |error: &dyn std::fmt::Display| ScrapeError::Unreachable(error.to_string());
    let request = Request::get(PATH).header(ACCEPT, accept).body(Body::empty()).map_err(|error| unreachable(&error))?;
    let response = client.send(request).await.map_err(|error| unreachable(&error))?;
    let (status, format) = (response.status(), Format::of(response.headers()));
    let body = receive(response.into_body()).await.map_err(|error| unreachable(&error))?;
    if status.is_success() { Ok(RawList { format, body }) } else { Err(refusal(status, format, &body)) }
}

/// Receives a body into one buffer as it comes: collecting its frames first would hold it twice, and it has 70 MB in a
/// large cluster.
async fn receive(body: Body) -> Result<Vec<u8>, tower::BoxError> {
    let mut body = pin!(Limited::new(body, LARGEST_BODY));
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes)
}

/// What a `Status` or a plain text tells.
fn refusal(status: StatusCode, format: Format, body: &[u8]) -> ScrapeError {
    let message = match format {
        Format::Protobuf => protobuf::status_message(body).map(str::to_owned),
        Format::Json => serde_json::from_slice::<ApiStatus>(body).ok().map(|status| status.message),
    };
    let message = message.unwrap_or_else(|| String::from_utf8_lossy(body).trim().chars().take(200).collect());
    ScrapeError::Refused { code: status.as_u16(), message, advice: advice(status.as_u16()) }
}

/// The part of a `Status` object that tells what is wrong.
#[derive(Deserialize)]
struct ApiStatus {
    message: String,
}

fn advice(code: u16) -> &'static str {
    match code {
        401 => "check the service account's token",
        403 => "grant list on pods.metrics.k8s.io to the recommender",
        404 => "install metrics-server",
        429 => "the API server is overloaded; collection goes on by itself",
        _ => "check metrics-server's pods and the APIService v1beta1.metrics.k8s.io",
    }
}
