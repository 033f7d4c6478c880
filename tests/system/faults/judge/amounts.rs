//! Requests and limits as numbers, by an arithmetic of the judge's own.

use serde_json::Value;
use std::collections::BTreeMap;

/// One resource of one container.
pub type Key = (String, Resource);
/// Millicores and bytes.
pub type Sizes = BTreeMap<Key, u64>;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Resource {
    Cpu,
    Memory,
}

pub const BOTH: [Resource; 2] = [Resource::Cpu, Resource::Memory];

impl Resource {
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
        }
    }

    pub fn parse(self, text: &str) -> Option<u64> {
        match self {
            Self::Cpu => millicores(text),
            Self::Memory => bytes(text),
        }
    }
}

/// `250m`, `2`, `0.25`
pub fn millicores(text: &str) -> Option<u64> {
    if let Some(milli) = text.strip_suffix('m') {
        return milli.parse().ok();
    }
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let part = format!("{part:0<3}");
    Some(whole.parse::<u64>().ok()? * 1000 + part[..3].parse::<u64>().ok()?)
}

/// `128Mi`, `1Gi`, `134217728`
pub fn bytes(text: &str) -> Option<u64> {
    let suffixes = [("Ki", 10), ("Mi", 20), ("Gi", 30)];
    let found = suffixes.iter().find_map(|(suffix, bits)| Some((text.strip_suffix(suffix)?, *bits)));
    let (number, bits) = found.unwrap_or((text, 0));
    Some(number.parse::<u64>().ok()? << bits)
}

/// One list (`requests`, `limits`) of all containers of a pod spec.
pub fn listed(containers: &Value, list: &str) -> Sizes {
    let mut sizes = Sizes::new();
    for container in containers.as_array().into_iter().flatten() {
        for resource in BOTH {
            let text = container["resources"][list][resource.name()].as_str();
            if let (Some(name), Some(amount)) = (container["name"].as_str(), text.and_then(|t| resource.parse(t))) {
                sizes.insert((name.to_owned(), resource), amount);
            }
        }
    }
    sizes
}

/// The same from a status's list of `{container, cpu, memory}`.
pub fn told(list: &Value) -> Sizes {
    let mut sizes = Sizes::new();
    for one in list.as_array().into_iter().flatten() {
        for resource in BOTH {
            let text = one[resource.name()].as_str();
            if let (Some(name), Some(amount)) = (one["container"].as_str(), text.and_then(|t| resource.parse(t))) {
                sizes.insert((name.to_owned(), resource), amount);
            }
        }
    }
    sizes
}

/// The QoS class of a pod spec's containers.
pub fn qos(containers: &Value) -> &'static str {
    let (requests, limits) = (listed(containers, "requests"), listed(containers, "limits"));
    let all = containers.as_array().map_or(0, Vec::len) * 2;
    // A limit without a request is the request too.
    let guaranteed =
        limits.len() == all && limits.iter().all(|(key, limit)| requests.get(key).unwrap_or(limit) == limit);
    match (requests.is_empty() && limits.is_empty(), guaranteed) {
        (true, _) => "BestEffort",
        (_, true) => "Guaranteed",
        _ => "Burstable",
    }
}
