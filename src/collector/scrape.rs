//! Step one: one LIST of everything that metrics-server knows.
//!
//! CPU is the average over the point's window in cores, memory the working set in bytes, both at the point's own
//! timestamp. A pod without points is absent; absence is not zero.

use crate::quantity;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Limited};
use jiff::Timestamp;
use kube::client::Body;
use serde::{Deserialize, Deserializer};
use std::borrow::Cow;
use std::time::Duration;

/// The name of this source in `optipod_metrics_collection_duration_seconds`.
pub(super) const PROVIDER: &str = "metrics-server";

/// More than a million containers need.
const LARGEST_BODY: usize = 1 << 30;

const PATH: &str = "/apis/metrics.k8s.io/v1beta1/pods";

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

/// The points of one pod's containers.
#[derive(Clone, PartialEq, Debug)]
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
#[derive(Clone, PartialEq, Debug)]
pub struct ContainerPoint<'a> {
    /// The container's name.
    pub name: Cow<'a, str>,
    /// Cores; `None` where the answer carries no valid amount.
    pub cpu: Option<f64>,
    /// Bytes; `None` where the answer carries no valid amount.
    pub memory: Option<f64>,
}

/// Fetches the list, undecoded.
pub(super) async fn fetch(client: &kube::Client, timeout: Duration) -> Result<Bytes, ScrapeError> {
    let request = Request::get(PATH)
        .header(http::header::ACCEPT, "application/json")
        .body(Body::empty())
        .map_err(|error| ScrapeError::Unreachable(error.to_string()))?;
    tokio::time::timeout(timeout, receive(client, request)).await.unwrap_or(Err(ScrapeError::Timeout(timeout)))
}

/// Receives the body as it comes: kube's own way copies it, and it has 100 MB in a large cluster.
async fn receive(client: &kube::Client, request: Request<Body>) -> Result<Bytes, ScrapeError> {
    let response = client.send(request).await.map_err(|error| ScrapeError::Unreachable(error.to_string()))?;
    let status = response.status();
    let body = Limited::new(response.into_body(), LARGEST_BODY).collect().await;
    let body = body.map_err(|error| ScrapeError::Unreachable(error.to_string()))?.to_bytes();
    if status.is_success() {
        return Ok(body);
    }
    let message = serde_json::from_slice::<ApiStatus>(&body)
        .map_or_else(|_| String::from_utf8_lossy(&body).trim().chars().take(200).collect(), |status| status.message);
    Err(ScrapeError::Refused { code: status.as_u16(), message, advice: advice(status.as_u16()) })
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

/// Decodes the list. Names and quantities are borrowed from `body`; one bad item does not spoil the others: what it lacks
/// is empty or `None`.
pub fn decode(body: &[u8]) -> Result<Vec<PodPoints<'_>>, ScrapeError> {
    let list: List<'_> = serde_json::from_slice(body).map_err(|error| ScrapeError::Malformed(error.to_string()))?;
    if list.kind != KIND {
        return Err(ScrapeError::Malformed(format!("its kind is \"{}\"", list.kind)));
    }
    Ok(list.items.into_iter().map(PodPoints::from).collect())
}

const KIND: &str = "PodMetricsList";

/// The few fields of `PodMetricsList` that we use.
#[derive(Deserialize)]
struct List<'a> {
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "null_is_empty")]
    items: Vec<Item<'a>>,
}

#[derive(Deserialize)]
struct Item<'a> {
    #[serde(borrow, default)]
    metadata: Metadata<'a>,
    #[serde(borrow, default)]
    timestamp: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "null_is_empty")]
    containers: Vec<ContainerItem<'a>>,
}

#[derive(Deserialize, Default)]
struct Metadata<'a> {
    #[serde(borrow, default)]
    name: Cow<'a, str>,
    #[serde(borrow, default)]
    namespace: Cow<'a, str>,
}

#[derive(Deserialize)]
struct ContainerItem<'a> {
    #[serde(borrow, default)]
    name: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "null_is_empty")]
    usage: Amounts<'a>,
}

#[derive(Deserialize, Default)]
struct Amounts<'a> {
    #[serde(borrow, default)]
    cpu: Cow<'a, str>,
    #[serde(borrow, default)]
    memory: Cow<'a, str>,
}

/// Go writes an empty list or map as `null`.
fn null_is_empty<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(value: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(value)?.unwrap_or_default())
}

impl<'a> From<Item<'a>> for PodPoints<'a> {
    fn from(item: Item<'a>) -> Self {
        Self {
            namespace: item.metadata.namespace,
            pod: item.metadata.name,
            at: item.timestamp.parse().ok(),
            containers: item.containers.into_iter().map(ContainerPoint::from).collect(),
        }
    }
}

impl<'a> From<ContainerItem<'a>> for ContainerPoint<'a> {
    fn from(item: ContainerItem<'a>) -> Self {
        Self {
            name: item.name,
            cpu: quantity::parse_f64(&item.usage.cpu).ok(),
            memory: quantity::parse_f64(&item.usage.memory).ok(),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)] // a test that panics has failed
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BODY: &str = r#"{"kind":"PodMetricsList","apiVersion":"metrics.k8s.io/v1beta1","metadata":{},"items":[
        {"metadata":{"name":"web-1","namespace":"shop","labels":{"app":"web"}},
         "timestamp":"2026-11-24T10:00:05Z","window":"15.012s",
         "containers":[{"name":"app","usage":{"cpu":"123456789n","memory":"64Ki"}},
                       {"name":"bad","usage":{"cpu":"-1n","memory":"lots"}}]},
        {"metadata":{"name":"w\u0065b-2","namespace":"shop"},"timestamp":"yesterday"}]}"#;

    #[test]
    fn amounts_are_exact_and_bad_ones_are_none() {
        let points = decode(BODY.as_bytes()).unwrap();
        assert_eq!(points.len(), 2);
        let web = &points[0];
        assert_eq!((&*web.namespace, &*web.pod), ("shop", "web-1"));
        assert_eq!(web.at, Some("2026-11-24T10:00:05Z".parse().unwrap()));
        let point = |name: &'static str, cpu, memory| ContainerPoint { name: name.into(), cpu, memory };
        let expected = [point("app", Some(0.123_456_789), Some(65_536.0)), point("bad", None, None)];
        assert_eq!(web.containers, expected);
        assert_eq!((&*points[1].pod, points[1].at, points[1].containers.len()), ("web-2", None, 0));
    }

    #[test]
    fn what_is_missing_or_null_is_empty_and_spoils_nothing() {
        let list = |items: &str| format!(r#"{{"kind":"PodMetricsList","items":{items}}}"#);
        assert_eq!(decode(list("null").as_bytes()).unwrap(), []);
        let body = list(r#"[{},{"containers":null},{"metadata":{"name":"p"},"containers":[{"usage":null}]}]"#);
        let points = decode(body.as_bytes()).unwrap();
        assert_eq!(points.iter().map(|pod| pod.containers.len()).collect::<Vec<_>>(), [0, 0, 1]);
        let nothing = ContainerPoint { name: "".into(), cpu: None, memory: None };
        assert_eq!((&*points[2].pod, &points[2].containers[0]), ("p", &nothing));
    }

    #[test]
    fn names_are_borrowed_from_the_body() {
        let points = decode(BODY.as_bytes()).unwrap();
        assert!(matches!(points[0].pod, Cow::Borrowed(_)));
        assert!(matches!(points[0].containers[0].name, Cow::Borrowed(_)));
        assert!(matches!(points[1].pod, Cow::Owned(_)), "an escape cannot be borrowed");
    }

    #[test]
    fn anything_else_is_malformed_and_says_so() {
        for body in ["", "<html>", "{}", "[]", r#"{"kind":"PodMetricsList","items":{}}"#, r#"{"kind":"PodList"}"#] {
            let error = decode(body.as_bytes()).unwrap_err();
            assert!(error.to_string().contains("PodMetricsList"), "{body}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(body in prop::collection::vec(any::<u8>(), 0..200), at in 0..BODY.len(), byte: u8) {
            let _ = decode(&body);
            let mut damaged = BODY.as_bytes().to_vec();
            damaged[at] = byte;
            let _ = decode(&damaged);
        }
    }
}
