//! One list in both its forms: what the fuzz target `metrics_both` does with its input.
//!
//! The input is the list as text, so that any bytes are one: each line a pod,
//! `namespace;name;Unix seconds;container=cpu,memory;…`. Oracles: the list, and each decoder for the other.

use jiff::Timestamp;
use optipod::collector::{PodPoints, decode_json, decode_protobuf};
use serde_json::{Map, Value, json};

struct Pod<'a> {
    namespace: &'a str,
    name: &'a str,
    at: Option<Timestamp>,
    containers: Vec<Container<'a>>,
}

/// A name, and the amounts that are given.
type Container<'a> = (&'a str, Vec<(&'static str, &'a str)>);

/// Panics unless both forms of the list give its pods, and the same of them; how many there are.
pub fn check(list: &str) -> usize {
    let pods = pods(list);
    let (protobuf, json) = (protobuf(&pods), json(&pods));
    let (mut from_protobuf, mut from_json) = (Vec::new(), Vec::new());
    decode_protobuf(&protobuf, |pod| from_protobuf.push(pod.clone())).expect("a list as protobuf");
    decode_json(&json, |pod| from_json.push(pod.clone())).expect("a list as JSON");
    assert_eq!(from_protobuf, from_json, "protobuf and JSON");
    assert_eq!(from_json.len(), pods.len());
    for (got, pod) in from_json.iter().zip(&pods) {
        assert_eq!((&*got.namespace, &*got.pod, got.at), (pod.namespace, pod.name, pod.at));
        assert_eq!(names(got), pod.containers.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    }
    pods.len()
}

/// The list as Kubernetes protobuf.
pub fn as_protobuf(list: &str) -> Vec<u8> {
    protobuf(&pods(list))
}

fn names<'a>(pod: &'a PodPoints<'_>) -> Vec<&'a str> {
    pod.containers.iter().map(|point| &*point.name).collect()
}

fn pods(list: &str) -> Vec<Pod<'_>> {
    list.lines().map(pod).collect()
}

fn pod(line: &str) -> Pod<'_> {
    let mut parts = line.split(';');
    let mut next = || parts.next().unwrap_or_default();
    let (namespace, name, seconds) = (next(), next(), next());
    let at = seconds.parse().ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    Pod { namespace, name, at, containers: parts.map(container).collect() }
}

fn container(part: &str) -> Container<'_> {
    let (name, amounts) = part.split_once('=').unwrap_or((part, ""));
    let amounts = ["cpu", "memory"].into_iter().zip(amounts.split(','));
    (name, amounts.filter(|(_, amount)| !amount.is_empty()).collect())
}

fn json(pods: &[Pod<'_>]) -> Vec<u8> {
    let container = |(name, amounts): &Container<'_>| {
        let usage = amounts.iter().map(|(resource, amount)| ((*resource).to_owned(), Value::from(*amount)));
        json!({"name": name, "usage": usage.collect::<Map<_, _>>()})
    };
    let item = |pod: &Pod<'_>| {
        let containers: Vec<Value> = pod.containers.iter().map(container).collect();
        let at = pod.at.map(|at| at.to_string());
        json!({"metadata": {"name": pod.name, "namespace": pod.namespace}, "timestamp": at, "containers": containers})
    };
    let items: Vec<Value> = pods.iter().map(item).collect();
    json!({"kind": "PodMetricsList", "items": items}).to_string().into_bytes()
}

/// Field numbers of `k8s.io/metrics` and apimachinery.
fn protobuf(pods: &[Pod<'_>]) -> Vec<u8> {
    let of_type = [field(1, b"metrics.k8s.io/v1beta1"), field(2, b"PodMetricsList")].concat();
    let items: Vec<u8> = pods.iter().flat_map(|pod| field(2, &item(pod))).collect();
    [b"k8s\0".to_vec(), field(1, &of_type), field(2, &items)].concat()
}

fn item(pod: &Pod<'_>) -> Vec<u8> {
    let metadata = [field(1, pod.name.as_bytes()), field(3, pod.namespace.as_bytes())].concat();
    // Go writes its zero time, which is none, as an empty message.
    let at = pod.at.map(|at| [vec![1 << 3], varint(at.as_second().cast_unsigned())].concat());
    let amount = |(resource, amount): &(&str, &str)| {
        field(2, &[field(1, resource.as_bytes()), field(2, &field(1, amount.as_bytes()))].concat())
    };
    let containers = pod.containers.iter().flat_map(|(name, amounts)| {
        let usage: Vec<u8> = amounts.iter().flat_map(amount).collect();
        field(4, &[field(1, name.as_bytes()), usage].concat())
    });
    [field(1, &metadata), field(2, &at.unwrap_or_default()), containers.collect()].concat()
}

/// A field with a length.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    [vec![number << 3 | 2], varint(bytes.len() as u64), bytes.to_vec()].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value > 0x7f {
        out.push((value % 128) as u8 | 0x80);
        value /= 128;
    }
    out.push(value as u8);
    out
}
