//! `PodMetricsList` as Kubernetes protobuf, as metrics-server also speaks it.
//!
//! Envelope `k8s\0` + `runtime.Unknown`; field numbers of `k8s.io/metrics` and `apimachinery`.
//! What it may not know: which pods were asked for.
//! Invariant: says the same as the JSON form.

use std::time::Duration;

use jiff::Timestamp;

use super::metrics::{Container, Item};

/// The whole list.
pub(crate) fn list(api_version: &str, items: &[Item<'_>], now: Timestamp) -> Vec<u8> {
    let mut raw = Vec::new();
    field(&mut raw, 1, &[]);
    for item in items {
        field(&mut raw, 2, &pod(item, now));
    }
    let mut type_meta = Vec::new();
    field(&mut type_meta, 1, api_version.as_bytes());
    field(&mut type_meta, 2, b"PodMetricsList");
    let mut unknown = Vec::new();
    field(&mut unknown, 1, &type_meta);
    field(&mut unknown, 2, &raw);
    field(&mut unknown, 3, &[]);
    field(&mut unknown, 4, &[]);
    [b"k8s\0".as_slice(), &unknown].concat()
}

fn pod(item: &Item<'_>, now: Timestamp) -> Vec<u8> {
    let mut meta = Vec::new();
    field(&mut meta, 1, item.metadata.name.as_bytes());
    field(&mut meta, 3, item.metadata.namespace.as_bytes());
    field(&mut meta, 8, &time(now));
    for (key, value) in item.metadata.labels.into_iter().flatten() {
        let value = value.as_str().unwrap_or_default();
        field(&mut meta, 11, &entry(key.as_bytes(), value.as_bytes()));
    }
    let mut out = Vec::new();
    field(&mut out, 1, &meta);
    field(&mut out, 2, &time(item.point.timestamp));
    field(&mut out, 3, &duration(item.point.window));
    for usage in &item.containers {
        field(&mut out, 4, &container(usage));
    }
    out
}

fn container(container: &Container<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    field(&mut out, 1, container.name.as_bytes());
    for (name, amount) in [("cpu", &container.usage.cpu), ("memory", &container.usage.memory)] {
        let mut quantity = Vec::new();
        field(&mut quantity, 1, amount.as_bytes());
        field(&mut out, 2, &entry(name.as_bytes(), &quantity));
    }
    out
}

fn time(at: Timestamp) -> Vec<u8> {
    let mut out = Vec::new();
    number(&mut out, 1, u64::try_from(at.as_second()).unwrap_or(0));
    number(&mut out, 2, 0);
    out
}

fn duration(span: Duration) -> Vec<u8> {
    let mut out = Vec::new();
    number(&mut out, 1, u64::try_from(span.as_nanos()).unwrap_or(u64::MAX));
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
        out.push(value.to_le_bytes().first().copied().unwrap_or(0) | 0x80);
        value >>= 7;
    }
    out.extend(value.to_le_bytes().first());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_and_fields_are_the_wire_formats() {
        let mut out = Vec::new();
        number(&mut out, 1, 300);
        field(&mut out, 2, b"hi");
        assert_eq!(out, [0x08, 0xac, 0x02, 0x12, 2, b'h', b'i']);
    }
}
