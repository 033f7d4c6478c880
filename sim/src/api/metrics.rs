//! `metrics.k8s.io/v1beta1`, as metrics-server serves it.
//!
//! What it may not know: how usage comes about; the simulated kubelets publish points here.
//! Invariant: the answer holds the last published point of each pod, with its own timestamp; a pod
//! without a point is absent, not zero.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::route::Query;
use super::selector::Selector;
use super::state::State;
use super::status::StatusError;
use super::store::{Key, Store};
use crate::clock::rfc3339;
use crate::json::{list_at, map_at};

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

impl State {
    /// GET of one pod's metrics, or a list; `limit` and `continue` are ignored.
    pub(crate) fn read_metrics(
        &self,
        namespace: Option<&str>,
        name: Option<&str>,
        query: &Query,
        now: Timestamp,
    ) -> Result<Value, StatusError> {
        if !self.metrics_served {
            let message = "the server is currently unable to handle the request";
            return Err(StatusError::new(503, "ServiceUnavailable", message));
        }
        if query.flag("watch") {
            return Err(StatusError::method_not_allowed());
        }
        if let (Some(namespace), Some(name)) = (namespace, name) {
            let point = self.metrics.get(namespace, name);
            let mut item = point
                .map(|point| item_json(&self.store, point, now))
                .ok_or_else(|| missing(namespace, name))?;
            crate::json::set(&mut item, &["kind"], "PodMetrics");
            crate::json::set(&mut item, &["apiVersion"], "metrics.k8s.io/v1beta1");
            return Ok(item);
        }
        let pods = self
            .registry
            .find("", "v1", "pods")
            .ok_or_else(StatusError::no_such_path)?;
        let selector = Selector::parse(
            &pods,
            query.get("labelSelector"),
            query.get("fieldSelector"),
        )?;
        let items: Vec<Value> = self
            .metrics
            .points
            .values()
            .filter(|point| namespace.is_none_or(|wanted| wanted == point.namespace))
            .map(|point| item_json(&self.store, point, now))
            .filter(|item| selector.matches(item))
            .collect();
        Ok(
            json!({"kind": "PodMetricsList", "apiVersion": "metrics.k8s.io/v1beta1",
            "metadata": {}, "items": items}),
        )
    }
}

fn missing(namespace: &str, name: &str) -> StatusError {
    let message = format!("podmetrics.metrics.k8s.io \"{namespace}/{name}\" not found");
    StatusError {
        details: json!({"name": format!("{namespace}/{name}"), "group": "metrics.k8s.io",
            "kind": "podmetrics"}),
        ..StatusError::new(404, "NotFound", message)
    }
}

fn item_json(store: &Store, point: &PodPoint, now: Timestamp) -> Value {
    let containers: Vec<Value> = point.containers.iter().map(container_json).collect();
    let mut item = json!({
        "metadata": {"name": point.name, "namespace": point.namespace,
            "creationTimestamp": rfc3339(now)},
        "timestamp": rfc3339(point.timestamp),
        "window": format!("{}s", point.window.as_secs_f64()),
        "containers": containers,
    });
    let key = Key::new(&point.namespace, &point.name);
    let pod = store
        .table_named("pods")
        .and_then(|table| table.objects.get(&key));
    if let Some(labels) = pod.and_then(|pod| map_at(pod, "/metadata/labels")) {
        crate::json::set(
            &mut item,
            &["metadata", "labels"],
            Value::Object(labels.clone()),
        );
    }
    item
}

fn container_json(usage: &ContainerUsage) -> Value {
    let cpu = match usage.cpu_nanos {
        0 => "0".to_owned(),
        nanos => format!("{nanos}n"),
    };
    json!({"name": usage.name, "usage": {"cpu": cpu, "memory": format!("{}Ki", usage.memory_kib)}})
}

/// The list as Kubernetes protobuf, from its JSON form.
pub(crate) fn to_protobuf(list: &Value) -> Vec<u8> {
    let mut raw = Vec::new();
    field(&mut raw, 1, &[]);
    for item in list_at(list, "/items") {
        field(&mut raw, 2, &pod_protobuf(item));
    }
    let mut type_meta = Vec::new();
    field(&mut type_meta, 1, b"metrics.k8s.io/v1beta1");
    field(&mut type_meta, 2, b"PodMetricsList");
    let mut unknown = Vec::new();
    field(&mut unknown, 1, &type_meta);
    field(&mut unknown, 2, &raw);
    field(&mut unknown, 3, &[]);
    field(&mut unknown, 4, &[]);
    [b"k8s\0".as_slice(), &unknown].concat()
}

fn pod_protobuf(item: &Value) -> Vec<u8> {
    let text = |pointer: &str| crate::json::str_at(item, pointer).as_bytes();
    let mut meta = Vec::new();
    field(&mut meta, 1, text("/metadata/name"));
    field(&mut meta, 3, text("/metadata/namespace"));
    field(
        &mut meta,
        8,
        &time_protobuf(crate::json::str_at(item, "/metadata/creationTimestamp")),
    );
    for (key, value) in map_at(item, "/metadata/labels").into_iter().flatten() {
        let value = value.as_str().unwrap_or_default();
        field(&mut meta, 11, &entry(key.as_bytes(), value.as_bytes()));
    }
    let mut pod = Vec::new();
    field(&mut pod, 1, &meta);
    field(
        &mut pod,
        2,
        &time_protobuf(crate::json::str_at(item, "/timestamp")),
    );
    let seconds: f64 = crate::json::str_at(item, "/window")
        .trim_end_matches('s')
        .parse()
        .unwrap_or(0.0);
    let mut duration = Vec::new();
    // Nanoseconds of a scrape window: far below 2^53, never negative.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    number(&mut duration, 1, (seconds * 1e9).round() as u64);
    field(&mut pod, 3, &duration);
    for container in list_at(item, "/containers") {
        let mut bytes = Vec::new();
        field(
            &mut bytes,
            1,
            crate::json::str_at(container, "/name").as_bytes(),
        );
        for (key, value) in map_at(container, "/usage").into_iter().flatten() {
            let mut quantity = Vec::new();
            field(
                &mut quantity,
                1,
                value.as_str().unwrap_or_default().as_bytes(),
            );
            field(&mut bytes, 2, &entry(key.as_bytes(), &quantity));
        }
        field(&mut pod, 4, &bytes);
    }
    pod
}

fn time_protobuf(text: &str) -> Vec<u8> {
    let seconds = text.parse::<Timestamp>().map_or(0, Timestamp::as_second);
    let mut out = Vec::new();
    number(&mut out, 1, u64::try_from(seconds).unwrap_or(0));
    number(&mut out, 2, 0);
    out
}

fn entry(key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    field(&mut out, 1, key);
    field(&mut out, 2, value);
    out
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7f).unwrap_or(0) | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).unwrap_or(0));
}

fn number(out: &mut Vec<u8>, tag: u64, value: u64) {
    varint(out, tag << 3);
    varint(out, value);
}

fn field(out: &mut Vec<u8>, tag: u64, bytes: &[u8]) {
    varint(out, tag << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}
