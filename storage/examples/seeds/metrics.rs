//! What metrics-server answers, in both its forms and as the list that both are of: by the `.proto` files of Kubernetes alone.

use crate::varint;

/// A pod's name, Unix seconds, and its containers' names, CPU and memory.
type Pod = (&'static str, u64, &'static [[&'static str; 3]]);

/// 2026-01-01, and a minute later.
const TIMES: [(u64, &str); 2] = [(1_767_225_600, "2026-01-01T00:00:00Z"), (1_767_225_660, "2026-01-01T00:01:00Z")];

const LISTS: [&[Pod]; 4] = [
    &[],
    &[("alone", 0, &[["app", "1", "1Mi"]])],
    &[("bare", 0, &[]), ("two", 1, &[["app", "250m", "128974848"], ["proxy", "1500000n", "12Ki"]])],
    &[("bäcker", 1, &[["main", "0", "0"]]), ("odd", 1, &[["main", "1e3", "-1"]])],
];

/// One for each list.
pub fn protobuf() -> Vec<Vec<u8>> {
    LISTS.into_iter().map(list).collect()
}

/// The same lists.
pub fn json() -> Vec<Vec<u8>> {
    let container = |[name, cpu, memory]: &[&str; 3]| {
        format!(r#"{{"name":"{name}","usage":{{"cpu":"{cpu}","memory":"{memory}"}}}}"#)
    };
    let pod = |(name, time, containers): &Pod| {
        let containers: Vec<String> = containers.iter().map(container).collect();
        let time = TIMES.get(*time as usize).map_or("", |(_, text)| text);
        let containers = containers.join(",");
        format!(
            r#"{{"metadata":{{"name":"{name}","namespace":"shop"}},"timestamp":"{time}","window":"15s","containers":[{containers}]}}"#
        )
    };
    let list = |pods: &[Pod]| {
        let items = pods.iter().map(pod).collect::<Vec<String>>().join(",");
        format!(
            r#"{{"kind":"PodMetricsList","apiVersion":"metrics.k8s.io/v1beta1","metadata":{{}},"items":[{items}]}}"#
        )
    };
    LISTS.into_iter().map(|pods| list(pods).into_bytes()).collect()
}

/// The same lists as text, as the target `metrics_both` reads them.
pub fn lists() -> Vec<Vec<u8>> {
    let container = |[name, cpu, memory]: &[&str; 3]| format!(";{name}={cpu},{memory}");
    let pod = |(name, time, containers): &Pod| {
        let containers: String = containers.iter().map(container).collect();
        let seconds = TIMES.get(*time as usize).map_or(0, |(seconds, _)| *seconds);
        format!("shop;{name};{seconds}{containers}\n")
    };
    LISTS.into_iter().map(|pods| pods.iter().map(pod).collect::<String>().into_bytes()).collect()
}

/// A field with a length.
fn field(number: u64, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    varint(&mut out, number * 8 + 2);
    varint(&mut out, bytes.len() as u64);
    out.extend(bytes);
    out
}

fn list(pods: &[Pod]) -> Vec<u8> {
    let items: Vec<u8> = pods.iter().flat_map(|pod| field(2, &item(pod))).collect();
    let of_type = [field(1, b"metrics.k8s.io/v1beta1"), field(2, b"PodMetricsList")].concat();
    let object = [field(1, &[]), items].concat();
    [b"k8s\0".as_slice(), &field(1, &of_type), &field(2, &object)].concat()
}

fn item((name, time, containers): &Pod) -> Vec<u8> {
    let metadata = [field(1, name.as_bytes()), field(3, b"shop")].concat();
    let mut seconds = vec![8]; // field 1, a varint
    varint(&mut seconds, TIMES.get(*time as usize).map_or(0, |(seconds, _)| *seconds));
    let containers = containers.iter().flat_map(|[name, cpu, memory]| {
        let usage = |resource: &str, amount: &str| {
            let quantity = field(1, amount.as_bytes());
            field(2, &[field(1, resource.as_bytes()), field(2, &quantity)].concat())
        };
        field(4, &[field(1, name.as_bytes()), usage("cpu", cpu), usage("memory", memory)].concat())
    });
    [field(1, &metadata), field(2, &seconds), containers.collect()].concat()
}
