//! Which right each method needs, and which namespace a request speaks of.
//!
//! The rights are RBAC's: verb `get` on a resource of the group `optipod.io` that nothing else is stored under.
//! Invariant: a method that is not listed here is not served.

use crate::proto;
use prost::Message;

/// The group of the resources that stand for rights.
pub(super) const GROUP: &str = "optipod.io";
/// The verb of every right.
pub(super) const VERB: &str = "get";

/// A right that RBAC grants.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Right {
    /// Read what containers used.
    Usage,
    /// Read what they should request.
    Recommendations,
    /// Read how the store is doing.
    StoreStatus,
    /// Read the definition of the protocol.
    Reflection,
}

impl Right {
    /// As RBAC names the resource.
    pub(super) fn resource(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::Recommendations => "recommendations",
            Self::StoreStatus => "storestatus",
            Self::Reflection => "reflection",
        }
    }
}

/// The one namespace that an encoded request speaks of.
pub(super) type NamespaceOf = fn(&[u8]) -> Option<String>;

/// What a method asks of its caller.
#[derive(Clone, Copy, Debug)]
pub(super) enum Needs {
    /// Nothing.
    Nothing,
    /// A right in all namespaces.
    Everywhere(Right),
    /// A right in all namespaces, or in the one that the request speaks of.
    There(Right, NamespaceOf),
}

/// What the method at `path` needs; `None` where there is no such method.
pub(super) fn of(path: &str) -> Option<Needs> {
    let needs = match path {
        "/grpc.health.v1.Health/Check" | "/grpc.health.v1.Health/Watch" => Needs::Nothing,
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo" => Needs::Everywhere(Right::Reflection),
        "/optipod.v1alpha1.UsageService/GetUsage" => {
            Needs::There(Right::Usage, |bytes| of_series(proto::GetUsageRequest::decode(bytes).ok()?.series))
        }
        "/optipod.v1alpha1.UsageService/BatchGetUsage" => Needs::There(Right::Usage, |bytes| {
            let mut series = proto::BatchGetUsageRequest::decode(bytes).ok()?.series.into_iter();
            let first = series.next()?.namespace;
            series.all(|other| other.namespace == first).then_some(first).and_then(named)
        }),
        "/optipod.v1alpha1.RecommenderService/ListSeries" => {
            Needs::There(Right::Usage, |bytes| named(proto::ListSeriesRequest::decode(bytes).ok()?.namespace))
        }
        "/optipod.v1alpha1.RecommenderService/QueryRange" => {
            Needs::There(Right::Usage, |bytes| of_series(proto::QueryRangeRequest::decode(bytes).ok()?.series))
        }
        "/optipod.v1alpha1.RecommenderService/GetRecommendation" => Needs::There(Right::Recommendations, |bytes| {
            of_series(proto::GetRecommendationRequest::decode(bytes).ok()?.series)
        }),
        "/optipod.v1alpha1.RecommenderService/GetStoreStatus" => Needs::Everywhere(Right::StoreStatus),
        _ => return None,
    };
    Some(needs)
}

/// The namespace of a body that is one whole uncompressed message; of any other it is not known.
pub(super) fn namespace(body: &[u8], of: NamespaceOf) -> Option<String> {
    let (head, message) = body.split_at_checked(5)?;
    let [0, length @ ..] = head else { return None };
    let length = u32::from_be_bytes(length.try_into().ok()?);
    if message.len() == usize::try_from(length).ok()? { of(message) } else { None }
}

fn of_series(series: Option<proto::Series>) -> Option<String> {
    named(series?.namespace)
}

/// What can be a namespace's name: the API server takes the empty one for all.
fn named(namespace: String) -> Option<String> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    ((1..=63).contains(&namespace.len()) && namespace.bytes().all(plain)).then_some(namespace)
}
