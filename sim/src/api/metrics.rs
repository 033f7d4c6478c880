//! `metrics.k8s.io/v1beta1`, as metrics-server serves it.
//!
//! What it may not know: how usage comes about; the simulated kubelets publish points here.
//! Invariant: the answer holds the last published point of each pod, with its own timestamp; a pod
//! without a point is absent, not zero.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::metrics_protobuf;
use super::route::Query;
use super::selector::Selector;
use super::state::State;
use super::status::StatusError;
use super::store::Key;
use crate::clock::rfc3339;
use crate::json::map_at;
use crate::quantity::Quantity;

/// Usage of one container over one window.
#[derive(Clone, Debug, PartialEq)]
pub struct ContainerUsage {
    /// Container name.
    pub name: String,
    /// CPU, averaged over the window, in nanocores: the unit that metrics-server answers.
    pub cpu_nanos: u64,
    /// Working set at the timestamp, in KiB.
    pub memory_kib: u64,
}

/// What metrics-server knows of one pod.
#[derive(Clone, Debug, PartialEq)]
pub struct PodPoint {
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub name: String,
    /// End of the window.
    pub timestamp: Timestamp,
    /// Length of the window.
    pub window: Duration,
    /// All containers.
    pub containers: Vec<ContainerUsage>,
}

/// The last point of each pod.
#[derive(Debug, Default)]
pub(crate) struct MetricsTable {
    points: BTreeMap<Key, PodPoint>,
}

impl MetricsTable {
    pub(crate) fn publish(&mut self, point: PodPoint) {
        let key = Key::new(&point.namespace, &point.name);
        self.points.insert(key, point);
    }

    pub(crate) fn retract(&mut self, namespace: &str, name: &str) {
        self.points.remove(&Key::new(namespace, name));
    }

    pub(crate) fn get(&self, namespace: &str, name: &str) -> Option<&PodPoint> {
        self.points.get(&Key::new(namespace, name))
    }
}

/// What the client accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Json,
    Protobuf,
}

/// `PodMetrics`, ready to be written. Rendered without a `Value` between: a client that asks every
/// 15 s makes this the most frequent large answer of a run.
#[derive(Serialize)]
pub(crate) struct Item<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(rename = "apiVersion", skip_serializing_if = "Option::is_none")]
    api_version: Option<&'static str>,
    pub(crate) metadata: Meta<'a>,
    pub(crate) timestamp: String,
    pub(crate) window: String,
    pub(crate) containers: Vec<Container<'a>>,
    #[serde(skip)]
    pub(crate) point: &'a PodPoint,
}

/// The metadata of an item.
#[derive(Serialize)]
pub(crate) struct Meta<'a> {
    pub(crate) name: &'a str,
    pub(crate) namespace: &'a str,
    #[serde(rename = "creationTimestamp")]
    created: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) labels: Option<&'a Map<String, Value>>,
}

/// One container of an item.
#[derive(Serialize)]
pub(crate) struct Container<'a> {
    pub(crate) name: &'a str,
    pub(crate) usage: Usage,
}

/// Usage as quantities.
#[derive(Serialize)]
pub(crate) struct Usage {
    pub(crate) cpu: String,
    pub(crate) memory: String,
}

#[derive(Serialize)]
struct List<'a> {
    kind: &'static str,
    #[serde(rename = "apiVersion")]
    api_version: &'static str,
    metadata: Map<String, Value>,
    items: &'a [Item<'a>],
}

const API_VERSION: &str = "metrics.k8s.io/v1beta1";

impl State {
    /// GET of one pod's metrics, or a list; `limit` and `continue` are ignored.
    pub(crate) fn read_metrics(
        &self,
        namespace: Option<&str>,
        name: Option<&str>,
        query: &Query,
        now: Timestamp,
        encoding: Encoding,
    ) -> Result<Vec<u8>, StatusError> {
        if !self.metrics_served {
            let message = "the server is currently unable to handle the request";
            return Err(StatusError::new(503, "ServiceUnavailable", message));
        }
        if query.flag("watch") {
            return Err(StatusError::method_not_allowed());
        }
        let created = rfc3339(now);
        if let (Some(namespace), Some(name)) = (namespace, name) {
            let point = self.metrics.get(namespace, name);
            let mut item = point.map(|point| self.item(point, &created)).ok_or_else(|| missing(namespace, name))?;
            item.kind = Some("PodMetrics");
            item.api_version = Some(API_VERSION);
            return to_json(&item);
        }
        let items = self.items(namespace, query, &created)?;
        match encoding {
            Encoding::Protobuf => Ok(metrics_protobuf::list(API_VERSION, &items, now)),
            Encoding::Json => {
                to_json(&List { kind: "PodMetricsList", api_version: API_VERSION, metadata: Map::new(), items: &items })
            }
        }
    }

    fn items<'a>(
        &'a self,
        namespace: Option<&str>,
        query: &Query,
        created: &'a str,
    ) -> Result<Vec<Item<'a>>, StatusError> {
        let pods = self.registry.find("", "v1", "pods").ok_or_else(StatusError::no_such_path)?;
        let (labels, fields) = (query.get("labelSelector"), query.get("fieldSelector"));
        let selector = Selector::parse(&pods, labels, fields)?;
        let inside = |point: &&PodPoint| namespace.is_none_or(|wanted| wanted == point.namespace);
        let selected = |item: &Item<'_>| selector.is_empty() || selector.matches(&json!({ "metadata": item.metadata }));
        let points = self.metrics.points.values().filter(inside);
        let items = points.map(|point| self.item(point, created));
        Ok(items.filter(selected).collect())
    }

    fn item<'a>(&'a self, point: &'a PodPoint, created: &'a str) -> Item<'a> {
        let key = Key::new(&point.namespace, &point.name);
        let table = self.store.table_named("pods");
        let pod = table.and_then(|table| table.objects.get(&key));
        Item {
            kind: None,
            api_version: None,
            metadata: Meta {
                name: &point.name,
                namespace: &point.namespace,
                created,
                labels: pod.and_then(|pod| map_at(pod, "/metadata/labels")),
            },
            timestamp: rfc3339(point.timestamp),
            window: format!("{}s", point.window.as_secs_f64()),
            containers: point.containers.iter().map(container).collect(),
            point,
        }
    }
}

fn container(usage: &ContainerUsage) -> Container<'_> {
    let cpu = match usage.cpu_nanos {
        0 => "0".to_owned(),
        nanos => format!("{nanos}n"),
    };
    let memory = Quantity::kibibytes(usage.memory_kib).canonical();
    Container { name: &usage.name, usage: Usage { cpu, memory } }
}

fn to_json(value: &impl Serialize) -> Result<Vec<u8>, StatusError> {
    serde_json::to_vec(value).map_err(|error| StatusError::new(500, "InternalError", error.to_string()))
}

fn missing(namespace: &str, name: &str) -> StatusError {
    let message = format!("podmetrics.metrics.k8s.io \"{namespace}/{name}\" not found");
    StatusError {
        details: json!({"name": format!("{namespace}/{name}"), "group": "metrics.k8s.io",
            "kind": "podmetrics"}),
        ..StatusError::new(404, "NotFound", message)
    }
}
