//! Files for `optipod store import`: lines of JSON as `store export` writes them, and samples as CSV.

use optipod_storage::SketchKind;

use crate::sketch_of;

const HEADER: &str = "time_s,namespace,kind,workload,container,pod,cpu_cores,memory_bytes";

/// Two of each form.
pub fn files() -> Vec<Vec<u8>> {
    let five_minutes = line("5m", "2026-01-01T00:04:50Z", 300, SketchKind::TDigest);
    let hour = line("1h", "2026-01-01T00:59:50Z", 3600, SketchKind::LogLinear);
    let day = line("1d", "2026-01-01T23:59:50Z", 86_400, SketchKind::TDigest);
    let samples = "1767225600,shop,Deployment,cart,app,cart-1,0.25,1048576\n\
        1767225615.5,shop,Deployment,cart,app,cart-1,,2e6\n";
    let reordered = "pod,memory_bytes,cpu_cores,time_s,container,workload,kind,namespace\n\n\
        cart-1,1,NaN,1767225600,app,cart,Deployment,shop";
    [five_minutes, format!("{hour}\n{day}\n"), format!("{HEADER}\n{samples}"), reordered.to_owned()]
        .map(String::into_bytes)
        .to_vec()
}

/// Each wrong in one way only.
pub fn wrong() -> Vec<Vec<u8>> {
    let line = line("5m", "2026-01-01T00:04:50Z", 300, SketchKind::TDigest);
    let of_line = [
        ("\"5m\"", "\"7m\""),
        ("\"format\":1", "\"format\":9"),
        ("\"covered_seconds\":300", "\"covered_seconds\":-300"),
        ("\"covered_seconds\":300", "\"covered_seconds\":18446744073709551615"),
        ("2026-01-01T00:04:50Z", "2025-01-01T00:04:50Z"),
        ("cpu_sketch\":\"", "cpu_sketch\":\"="),
        ("memory_sketch\":\"", "memory_sketch\":\"AAAA"),
    ];
    let of_line = of_line.map(|(right, wrong)| line.replacen(right, wrong, 1));
    let sample = "1767225600,shop,Deployment,cart,app,cart-1,0.25,1048576";
    let of_sample = [("0.25", "a lot"), ("1767225600", "1e300"), ("shop", "\"shop\""), (",1048576", "")];
    let of_sample = of_sample.map(|(right, wrong)| format!("{HEADER}\n{}", sample.replacen(right, wrong, 1)));
    of_line.into_iter().chain(of_sample).map(String::into_bytes).collect()
}

fn line(slot: &str, to: &str, covered: u32, kind: SketchKind) -> String {
    let sketch = base64(&sketch_of(kind, &mut [0.25, 8.0]));
    format!(
        r#"{{"namespace":"shop","kind":"Deployment","workload":"cart","container":"app","slot":"{slot}","start":"2026-01-01T00:00:00Z","from":"2026-01-01T00:00:05Z","to":"{to}","covered_seconds":{covered},"format":1,"cpu_sketch":"{sketch}","memory_sketch":"{sketch}"}}"#
    )
}

/// With padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |group: &[u8]| {
        let bits = (0..3).fold(0_u32, |bits, n| bits << 8 | u32::from(group.get(n).copied().unwrap_or(0)));
        let digit = move |n: usize| char::from(DIGITS[(bits >> (18 - 6 * n)) as usize % 64]);
        let is_there = group.len();
        (0..4).map(move |n| if n <= is_there { digit(n) } else { '=' })
    };
    bytes.chunks(3).flat_map(group).collect()
}
