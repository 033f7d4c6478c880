//! Both decoders: on what metrics-server writes, on what it might, and on anything else.
//!
//! Oracles: the list that was written, by prost's derived encoder and by serde_json, and each decoder for the other.

use super::*;
use proptest::prelude::*;
use prost::Message;
use serde_json::json;
use std::collections::BTreeMap;

/// The messages as `generated.proto` of `k8s.io/metrics` and apimachinery declare them.
mod wire_types {
    use std::collections::BTreeMap;

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Unknown {
        #[prost(message, optional, tag = "1")]
        pub type_meta: Option<TypeMeta>,
        #[prost(bytes = "vec", tag = "2")]
        pub raw: Vec<u8>,
        #[prost(string, tag = "3")]
        pub content_encoding: String,
        #[prost(string, tag = "4")]
        pub content_type: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct TypeMeta {
        #[prost(string, tag = "1")]
        pub api_version: String,
        #[prost(string, tag = "2")]
        pub kind: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct PodMetricsList {
        #[prost(message, optional, tag = "1")]
        pub metadata: Option<ListMeta>,
        #[prost(message, repeated, tag = "2")]
        pub items: Vec<PodMetrics>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct ListMeta {
        #[prost(string, tag = "2")]
        pub resource_version: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct PodMetrics {
        #[prost(message, optional, tag = "1")]
        pub metadata: Option<ObjectMeta>,
        #[prost(message, optional, tag = "2")]
        pub timestamp: Option<Time>,
        #[prost(message, optional, tag = "3")]
        pub window: Option<Duration>,
        #[prost(message, repeated, tag = "4")]
        pub containers: Vec<ContainerMetrics>,
        /// Not in any version: stands for what a later one may add.
        #[prost(fixed64, tag = "1000")]
        pub later: u64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct ObjectMeta {
        #[prost(string, tag = "1")]
        pub name: String,
        #[prost(string, tag = "3")]
        pub namespace: String,
        #[prost(message, optional, tag = "8")]
        pub created: Option<Time>,
        #[prost(btree_map = "string, string", tag = "11")]
        pub labels: BTreeMap<String, String>,
    }

    #[derive(Clone, Copy, PartialEq, prost::Message)]
    pub struct Time {
        #[prost(int64, tag = "1")]
        pub seconds: i64,
        #[prost(int32, tag = "2")]
        pub nanos: i32,
    }

    #[derive(Clone, Copy, PartialEq, prost::Message)]
    pub struct Duration {
        #[prost(int64, tag = "1")]
        pub nanos: i64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct ContainerMetrics {
        #[prost(string, tag = "1")]
        pub name: String,
        #[prost(btree_map = "string, message", tag = "2")]
        pub usage: BTreeMap<String, Quantity>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Quantity {
        #[prost(string, tag = "1")]
        pub string: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Status {
        #[prost(string, tag = "2")]
        pub outcome: String,
        #[prost(string, tag = "3")]
        pub message: String,
        #[prost(int32, tag = "6")]
        pub code: i32,
    }
}

fn enveloped(kind: &str, raw: Vec<u8>) -> Vec<u8> {
    let type_meta = wire_types::TypeMeta { api_version: "metrics.k8s.io/v1beta1".into(), kind: kind.into() };
    let unknown = wire_types::Unknown { type_meta: Some(type_meta), raw, ..wire_types::Unknown::default() };
    [b"k8s\0".as_slice(), &unknown.encode_to_vec()].concat()
}

/// A pod as a test writes it, both ways.
#[derive(Clone, Debug)]
struct Pod {
    namespace: String,
    name: String,
    labels: BTreeMap<String, String>,
    seconds: Option<i64>,
    containers: Vec<(String, BTreeMap<String, String>)>,
    later: u64,
}

fn protobuf(pods: &[Pod]) -> Vec<u8> {
    let time = |seconds| wire_types::Time { seconds, nanos: 0 };
    let item = |pod: &Pod| wire_types::PodMetrics {
        metadata: Some(wire_types::ObjectMeta {
            name: pod.name.clone(),
            namespace: pod.namespace.clone(),
            created: Some(time(1_795_000_000)),
            labels: pod.labels.clone(),
        }),
        timestamp: Some(pod.seconds.map(time).unwrap_or_default()),
        window: Some(wire_types::Duration { nanos: 15_012_000_000 }),
        containers: pod.containers.iter().map(container).collect(),
        later: pod.later,
    };
    let list = wire_types::PodMetricsList {
        metadata: Some(wire_types::ListMeta::default()),
        items: pods.iter().map(item).collect(),
    };
    enveloped("PodMetricsList", list.encode_to_vec())
}

fn container((name, usage): &(String, BTreeMap<String, String>)) -> wire_types::ContainerMetrics {
    let quantity = |text: &String| wire_types::Quantity { string: text.clone() };
    let usage = usage.iter().map(|(resource, text)| (resource.clone(), quantity(text))).collect();
    wire_types::ContainerMetrics { name: name.clone(), usage }
}

fn json(pods: &[Pod]) -> Vec<u8> {
    let item = |pod: &Pod| {
        let containers = pod.containers.iter().map(|(name, usage)| json!({"name": name, "usage": usage}));
        let timestamp = pod.seconds.map(|seconds| Timestamp::from_second(seconds).unwrap().to_string());
        json!({"metadata": {"name": pod.name, "namespace": pod.namespace, "labels": pod.labels},
            "timestamp": timestamp, "window": "15.012s", "containers": containers.collect::<Vec<_>>()})
    };
    let items: Vec<_> = pods.iter().map(item).collect();
    json!({"kind": "PodMetricsList", "apiVersion": "metrics.k8s.io/v1beta1", "metadata": {}, "items": items})
        .to_string()
        .into_bytes()
}

fn decoded(format: Format, body: &[u8]) -> Result<Vec<PodPoints<'_>>, ScrapeError> {
    let mut pods = Vec::new();
    let count = match format {
        Format::Protobuf => decode_protobuf(body, |pod| pods.push(pod.clone())),
        Format::Json => decode_json(body, |pod| pods.push(pod.clone())),
    }?;
    assert_eq!(count, pods.len());
    Ok(pods)
}

/// Names as Kubernetes has them, and others; amounts with every suffix, and what is none.
fn pods() -> impl Strategy<Value = Vec<Pod>> {
    let name = || prop_oneof![4 => "[a-z0-9.-]{0,60}", 1 => "\\PC{0,20}"];
    let amount = prop_oneof![
        6 => "(0|[1-9][0-9]{0,14})(n|u|m||k|M|G|Ki|Mi|Gi|e3)",
        1 => "[0-9]{0,25}\\.?[0-9]{0,25}",
        1 => "[-+]?[0-9a-zA-Z.]{0,12}",
    ];
    let resource = prop_oneof![3 => Just("cpu"), 3 => Just("memory"), 1 => Just("example.com/gpu")];
    let usage = prop::collection::btree_map(resource.prop_map(str::to_owned), amount, 0..4);
    let containers = prop::collection::vec((name(), usage), 0..4);
    let labels = prop::collection::btree_map(name(), name(), 0..3);
    let seconds = prop::option::weighted(0.9, prop_oneof![1i64..4_000_000_000, -60_000_000_000i64..-1]);
    let pod = (name(), name(), labels, seconds, containers, any::<u64>());
    let pod = pod.prop_map(|(namespace, name, labels, seconds, containers, later)| Pod {
        namespace,
        name,
        labels,
        seconds,
        containers,
        later,
    });
    prop::collection::vec(pod, 0..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn both_forms_of_a_list_give_the_same_points_and_those_are_the_lists(pods in pods()) {
        let (protobuf, json) = (protobuf(&pods), json(&pods));
        let points = decoded(Format::Protobuf, &protobuf).unwrap();
        prop_assert_eq!(&points, &decoded(Format::Json, &json).unwrap());
        prop_assert_eq!(points.len(), pods.len());
        for (got, pod) in points.iter().zip(&pods) {
            prop_assert_eq!((&*got.namespace, &*got.pod), (&*pod.namespace, &*pod.name));
            prop_assert_eq!(got.at.map(Timestamp::as_second), pod.seconds);
            let names: Vec<&str> = got.containers.iter().map(|point| &*point.name).collect();
            prop_assert_eq!(names, pod.containers.iter().map(|(name, _)| &**name).collect::<Vec<_>>());
            for (point, (_, usage)) in got.containers.iter().zip(&pod.containers) {
                let amount = |resource| usage.get(resource).and_then(|text| crate::quantity::parse_f64(text).ok());
                prop_assert_eq!((point.cpu, point.memory), (amount("cpu"), amount("memory")));
            }
        }
    }

    /// Where prost, too, reads the damaged bytes, what both read is the same.
    #[test]
    fn damaged_bytes_give_an_error_or_a_list_and_never_a_panic(
        pods in pods(), damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4), cut: bool,
    ) {
        for (format, mut body) in [(Format::Protobuf, protobuf(&pods)), (Format::Json, json(&pods))] {
            for (at, byte) in &damage {
                let at = at.index(body.len());
                if cut { body.truncate(at.max(1)) } else { body[at] = *byte }
            }
            let points = decoded(format, &body);
            if let (Format::Protobuf, Ok(points), Some(list)) = (format, points, by_prost(&body)) {
                let names = list.items.iter().map(|pod| pod.metadata.clone().unwrap_or_default());
                let names: Vec<_> = names.map(|meta| (meta.namespace, meta.name)).collect();
                let got: Vec<_> = points.iter().map(|pod| (pod.namespace.to_string(), pod.pod.to_string())).collect();
                prop_assert_eq!(got, names);
            }
        }
    }

    #[test]
    fn any_bytes_give_an_error_or_a_list_and_never_a_panic(bytes: Vec<u8>, raw: Vec<u8>) {
        let prefixed = [b"k8s\0".as_slice(), &bytes].concat();
        for body in [bytes, prefixed, enveloped("PodMetricsList", raw)] {
            let _ = decoded(Format::Protobuf, &body);
            let _ = decoded(Format::Json, &body);
            let _ = protobuf::status_message(&body);
        }
    }
}

fn by_prost(body: &[u8]) -> Option<wire_types::PodMetricsList> {
    let unknown = wire_types::Unknown::decode(body.strip_prefix(b"k8s\0")?).ok()?;
    wire_types::PodMetricsList::decode(&*unknown.raw).ok()
}

const BODY: &str = r#"{"kind":"PodMetricsList","apiVersion":"metrics.k8s.io/v1beta1","metadata":{},"items":[
    {"metadata":{"name":"web-1","namespace":"shop","labels":{"app":"web"}},
     "timestamp":"2026-11-24T10:00:05Z","window":"15.012s",
     "containers":[{"name":"app","usage":{"cpu":"123456789n","memory":"64Ki"}},
                   {"name":"bad","usage":{"cpu":"-1n","memory":"lots"}}]},
    {"metadata":{"name":"w\u0065b-2","namespace":"shop"},"timestamp":"yesterday"}]}"#;

#[test]
fn amounts_are_exact_and_bad_ones_are_none() {
    let points = decoded(Format::Json, BODY.as_bytes()).unwrap();
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
    assert_eq!(decoded(Format::Json, list("null").as_bytes()).unwrap(), []);
    let body = list(r#"[{},{"containers":null},{"metadata":{"name":"p"},"containers":[{"usage":null}]}]"#);
    let points = decoded(Format::Json, body.as_bytes()).unwrap();
    assert_eq!(points.iter().map(|pod| pod.containers.len()).collect::<Vec<_>>(), [0, 0, 1]);
    assert_eq!((&*points[2].pod, &points[2].containers[0]), ("p", &ContainerPoint::default()));
    let sparse = wire_types::PodMetricsList {
        items: vec![wire_types::PodMetrics::default(); 2],
        ..wire_types::PodMetricsList::default()
    };
    let body = enveloped("PodMetricsList", sparse.encode_to_vec());
    assert_eq!(decoded(Format::Protobuf, &body).unwrap(), [PodPoints::default(), PodPoints::default()]);
}

#[test]
fn names_are_borrowed_from_the_body() {
    let points = decoded(Format::Json, BODY.as_bytes()).unwrap();
    assert!(matches!(points[0].pod, Cow::Borrowed(_)));
    assert!(matches!(points[0].containers[0].name, Cow::Borrowed(_)));
    assert!(matches!(points[1].pod, Cow::Owned(_)), "an escape cannot be borrowed");
}

#[test]
fn anything_else_is_malformed_and_says_so() {
    for body in ["", "<html>", "{}", "[]", r#"{"kind":"PodMetricsList","items":{}}"#, r#"{"kind":"PodList"}"#] {
        let error = decoded(Format::Json, body.as_bytes()).unwrap_err();
        assert!(error.to_string().contains("PodMetricsList"), "{body}: {error}");
    }
    let compressed = wire_types::Unknown { content_encoding: "gzip".into(), ..wire_types::Unknown::default() };
    for (body, reason) in [
        (BODY.as_bytes().to_vec(), "lacks the prefix k8s"),
        (b"k8s\0".to_vec(), "its kind is \"\""),
        (enveloped("PodList", Vec::new()), "its kind is \"PodList\""),
        (enveloped("PodMetricsList", vec![0x12, 9]), "in the middle of a field"),
        ([b"k8s\0".as_slice(), &compressed.encode_to_vec()].concat(), "its encoding is \"gzip\""),
    ] {
        let error = decoded(Format::Protobuf, &body).unwrap_err().to_string();
        assert!(error.contains("PodMetricsList") && error.contains(reason), "{error}");
    }
}

#[test]
fn the_form_is_what_the_content_type_says() {
    for (content_type, format) in [
        ("application/vnd.kubernetes.protobuf", Format::Protobuf),
        ("Application/Vnd.Kubernetes.Protobuf; stream=x", Format::Protobuf),
        ("application/json", Format::Json),
        ("text/html", Format::Json),
    ] {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, content_type.parse().unwrap())]);
        assert_eq!(Format::of(&headers), format, "{content_type}");
    }
    assert_eq!(Format::of(&HeaderMap::new()), Format::Json);
}

#[test]
fn a_refusal_is_read_in_every_form() {
    let status = wire_types::Status { outcome: "Failure".into(), message: "pods is forbidden".into(), code: 403 };
    for (format, body) in [
        (Format::Protobuf, enveloped("Status", status.encode_to_vec())),
        (Format::Json, br#"{"kind":"Status","message":"pods is forbidden"}"#.to_vec()),
        (Format::Json, b"pods is forbidden\n".to_vec()),
        (Format::Protobuf, b"pods is forbidden".to_vec()),
    ] {
        let text = refusal(StatusCode::FORBIDDEN, format, &body).to_string();
        assert!(text.contains("metrics: pods is forbidden (HTTP 403); grant list"), "{text}");
    }
}
