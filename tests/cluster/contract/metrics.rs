//! `metrics.k8s.io`: the list in its two forms, and what of the list API it heeds.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use kube::Client;
use kube::client::Body;
use prost::Message;
use serde_json::{Map, Value};

use super::{SOON, web};
use crate::harness::{Container, Namespace, Result, Server, wait_for};

/// The messages of `k8s.io/metrics/pkg/apis/metrics/v1beta1/generated.proto`, as far as they are read here.
mod form {
    use super::BTreeMap;

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Unknown {
        #[prost(bytes = "vec", tag = "2")]
        pub raw: Vec<u8>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct PodMetricsList {
        #[prost(message, repeated, tag = "2")]
        pub items: Vec<PodMetrics>,
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
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct ObjectMeta {
        #[prost(string, tag = "1")]
        pub name: String,
        #[prost(string, tag = "3")]
        pub namespace: String,
        #[prost(btree_map = "string, string", tag = "11")]
        pub labels: BTreeMap<String, String>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Time {
        #[prost(int64, tag = "1")]
        pub seconds: i64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Duration {
        #[prost(int64, tag = "1")]
        pub nanoseconds: i64,
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
        pub text: String,
    }
}

/// One pod of the list, whichever form it came in.
#[derive(Debug, PartialEq)]
struct Point {
    namespace: String,
    pod: String,
    labels: BTreeMap<String, String>,
    /// Seconds since 1970.
    at: i64,
    window_nanos: i64,
    /// Name, CPU and memory, as spelt.
    containers: Vec<(String, String, String)>,
}

/// The body of a list, and the content type that it came as.
async fn list(client: &Client, place: &str, query: &str, accept: &str) -> Result<(String, Vec<u8>)> {
    let path = format!("/apis/metrics.k8s.io/v1beta1{place}/pods{query}");
    let request = Request::get(path).header("Accept", accept).body(Body::empty())?;
    let answer = client.send(request).await?;
    ensure!(answer.status() == StatusCode::OK, "{}", answer.status());
    let kind = answer.headers().get("Content-Type").context("no content type")?.to_str()?.to_owned();
    Ok((kind, answer.into_body().collect().await?.to_bytes().to_vec()))
}

fn of_protobuf(body: &[u8]) -> Result<Vec<Point>> {
    let raw = form::Unknown::decode(body.strip_prefix(b"k8s\0").context("no magic number")?)?.raw;
    let point = |item: form::PodMetrics| {
        let metadata = item.metadata.unwrap_or_default();
        let amount = |usage: &BTreeMap<String, form::Quantity>, name: &str| {
            usage.get(name).map(|quantity| quantity.text.clone()).unwrap_or_default()
        };
        Point {
            namespace: metadata.namespace,
            pod: metadata.name,
            labels: metadata.labels,
            at: item.timestamp.unwrap_or_default().seconds,
            window_nanos: item.window.unwrap_or_default().nanoseconds,
            containers: item
                .containers
                .into_iter()
                .map(|c| (c.name, amount(&c.usage, "cpu"), amount(&c.usage, "memory")))
                .collect(),
        }
    };
    Ok(form::PodMetricsList::decode(&*raw)?.items.into_iter().map(point).collect())
}

fn of_json(body: &[u8]) -> Result<Vec<Point>> {
    let list: Value = serde_json::from_slice(body)?;
    ensure!(list["kind"] == "PodMetricsList" && list["metadata"].get("resourceVersion").is_none(), "{list}");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let point = |item: &Value| {
        let containers = item["containers"].as_array().into_iter().flatten();
        let labels = item["metadata"].get("labels").cloned().unwrap_or_else(|| Value::Object(Map::default()));
        Ok(Point {
            namespace: text(&item["metadata"]["namespace"]),
            pod: text(&item["metadata"]["name"]),
            labels: serde_json::from_value(labels)?,
            at: text(&item["timestamp"]).parse::<jiff::Timestamp>()?.as_second(),
            window_nanos: nanoseconds(&text(&item["window"]))?,
            containers: containers
                .map(|c| (text(&c["name"]), text(&c["usage"]["cpu"]), text(&c["usage"]["memory"])))
                .collect(),
        })
    };
    list["items"].as_array().context("no items")?.iter().map(point).collect()
}

/// A Go duration of minutes and seconds, such as `1m0.25s`.
fn nanoseconds(text: &str) -> Result<i64> {
    let (minutes, seconds) = text.split_once('m').unwrap_or(("0", text));
    let seconds = seconds.strip_suffix('s').with_context(|| format!("{text} is not in seconds"))?;
    let (whole, fraction) = seconds.split_once('.').unwrap_or((seconds, ""));
    let nanos: i64 = format!("{fraction:0<9}").parse()?;
    Ok((minutes.parse::<i64>()? * 60 + whole.parse::<i64>()?) * 1_000_000_000 + nanos)
}

fn place(namespace: &Namespace) -> String {
    format!("/namespaces/{}", namespace.name())
}

async fn two(namespace: &Namespace) -> Result {
    let two = namespace.deployment("two").replicas(2);
    let two = two.container(Container::new("app").usage("250m", "90Mi"));
    let two = two.container(Container::new("sidecar").usage("20m", "16Mi")).create().await?;
    two.wait_ready(SOON).await?;
    Ok(())
}

pub async fn the_list_says_the_same_as_json_and_as_protobuf(server: &Server) -> Result {
    let namespace = server.namespace("forms").await?;
    two(&namespace).await?;
    let (client, here) = (server.client(), place(&namespace));

    // Between the two requests there may be a newer point: then again.
    let points = wait_for("the same list in both forms, with both pods", SOON, || async {
        let (kind, json) = list(&client, &here, "", "application/json").await?;
        assert_eq!(kind, "application/json");
        let (kind, protobuf) = list(&client, &here, "", "application/vnd.kubernetes.protobuf").await?;
        assert_eq!(kind, "application/vnd.kubernetes.protobuf");
        let (json, protobuf) = (of_json(&json)?, of_protobuf(&protobuf)?);
        ensure!(json == protobuf, "{json:?} is not {protobuf:?}");
        ensure!(json.len() == 2, "{json:?}");
        Ok(json)
    })
    .await?;

    for point in points {
        assert_eq!(point.namespace, namespace.name());
        assert_eq!(point.labels.get("app").map(String::as_str), Some("two"), "{point:?}");
        // In no order: metrics-server keeps them in a map.
        let mut names: Vec<_> = point.containers.iter().map(|(name, ..)| name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["app", "sidecar"]);
        let app = point.containers.iter().find(|(name, ..)| name == "app");
        let (_, cpu, memory) = app.context("no app")?;
        assert!(cpu.ends_with('n') && memory == "90Mi", "{point:?}");
        assert!(point.window_nanos > 0, "{point:?}");
    }
    Ok(())
}

pub async fn the_list_is_selected_and_never_in_pages(server: &Server) -> Result {
    let namespace = server.namespace("selection").await?;
    two(&namespace).await?;
    web(&namespace, 1).await?.wait_ready(SOON).await?;
    let (client, here) = (server.client(), place(&namespace));
    let count =
        async |place: &str, query: &str| Ok(of_json(&list(&client, place, query, "application/json").await?.1)?.len());

    wait_for("all three pods", SOON, || async {
        let seen: Result<usize> = count(&here, "").await;
        ensure!(seen? == 3, "not yet");
        Ok(())
    })
    .await?;

    let everywhere = format!("?fieldSelector=metadata.namespace={}", namespace.name());
    for (place, query, pods) in [
        (here.as_str(), "?limit=1", 3),
        (&here, "?labelSelector=app=two", 2),
        (&here, "?labelSelector=app=web", 1),
        ("", &everywhere, 3),
    ] {
        let seen: Result<usize> = count(place, query).await;
        assert_eq!(seen?, pods, "{place}{query}");
    }
    let watch = list(&client, &here, "?watch=true", "application/json").await;
    let refused = watch.err().context("it can be watched")?;
    assert!(format!("{refused:#}").contains("405") || format!("{refused:?}").contains("405"), "{refused:?}");
    Ok(())
}
