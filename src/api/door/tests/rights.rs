use crate::api::door::rights::{Needs, namespace, of};
use crate::proto;
use prost::Message as _;

/// `/package.Service/Method` of every service in the compiled definitions but the socket's.
fn methods() -> Vec<String> {
    let files = prost_types::FileDescriptorSet::decode(proto::DESCRIPTORS).unwrap().file;
    let mut methods = Vec::new();
    for file in files {
        for service in &file.service {
            let path = |method: &prost_types::MethodDescriptorProto| {
                format!("/{}.{}/{}", file.package(), service.name(), method.name())
            };
            methods.extend(service.method.iter().map(path));
        }
    }
    methods.retain(|path| !path.starts_with("/optipod.admin."));
    methods
}

#[test]
fn every_method_of_the_protocol_needs_a_right() {
    let methods = methods();
    assert!(methods.len() >= 6, "{methods:?}");
    for path in methods {
        assert!(matches!(of(&path), Some(Needs::Everywhere(_) | Needs::There(..))), "{path} is not in rights.rs");
    }
}

#[test]
fn what_is_not_known_is_not_served() {
    for path in ["", "/", "/optipod.v1alpha1.UsageService/", "/optipod.admin.v1alpha1.StoreAdminService/Verify"] {
        assert!(of(path).is_none(), "{path}");
    }
}

fn series(namespace: &str) -> proto::Series {
    proto::Series { namespace: namespace.to_owned(), ..Default::default() }
}

fn framed(message: &impl prost::Message) -> Vec<u8> {
    let message = message.encode_to_vec();
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0], length.as_slice(), &message].concat()
}

fn named(method: &str, body: &[u8]) -> Option<String> {
    let Some(Needs::There(_, of)) = of(&format!("/optipod.v1alpha1.{method}")) else { panic!("{method}") };
    namespace(body, of)
}

#[test]
fn a_request_about_one_namespace_names_it() {
    let shop = || Some(series("shop"));
    let batch = proto::BatchGetUsageRequest { series: vec![series("shop"), series("shop")], window: None };
    for (method, body) in [
        ("UsageService/GetUsage", framed(&proto::GetUsageRequest { series: shop(), ..Default::default() })),
        ("UsageService/BatchGetUsage", framed(&batch)),
        (
            "RecommenderService/ListSeries",
            framed(&proto::ListSeriesRequest { namespace: "shop".into(), ..Default::default() }),
        ),
        ("RecommenderService/QueryRange", framed(&proto::QueryRangeRequest { series: shop(), ..Default::default() })),
        (
            "RecommenderService/GetRecommendation",
            framed(&proto::GetRecommendationRequest { series: shop(), ..Default::default() }),
        ),
    ] {
        assert_eq!(named(method, &body).as_deref(), Some("shop"), "{method}");
    }
}

#[test]
fn a_request_about_more_or_none_or_in_disguise_names_none() {
    let get =
        |namespace: &str| framed(&proto::GetUsageRequest { series: Some(series(namespace)), ..Default::default() });
    for namespace in ["", "*", "Shop", "a b", "a/b", &"x".repeat(64)] {
        assert_eq!(named("UsageService/GetUsage", &get(namespace)), None, "{namespace}");
    }
    let mixed = proto::BatchGetUsageRequest { series: vec![series("shop"), series("bank")], window: None };
    assert_eq!(named("UsageService/BatchGetUsage", &framed(&mixed)), None);
    assert_eq!(named("UsageService/BatchGetUsage", &framed(&proto::BatchGetUsageRequest::default())), None);
    assert_eq!(named("RecommenderService/ListSeries", &framed(&proto::ListSeriesRequest::default())), None);
    let (mut compressed, two) = (get("shop"), [get("shop"), get("bank")].concat());
    compressed[0] = 1;
    // A service reads the first message only, and protobuf takes the last of what is there twice.
    let behind = [get("bank"), get("shop")[5..].to_vec()].concat();
    for body in [&compressed[..], &two, &behind, &get("shop")[..7], b"", b"\0\0\0"] {
        assert_eq!(named("UsageService/GetUsage", body), None, "{body:?}");
    }
}
