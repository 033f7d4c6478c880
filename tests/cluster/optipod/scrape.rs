//! How the collector asks a real metrics-server, through a real API server.

use anyhow::{Context, bail, ensure};
use http::Request;
use optipod::collector::{ContainerPoint, Format, PodPoints, ScrapeError, decode_json, fetch};
use serde_json::Value;

use super::SOON;
use crate::harness::{Cluster, Container, Result, wait_for};

const PATH: &str = "/apis/metrics.k8s.io/v1beta1/pods";

/// Oracles: what kube gets as JSON, read as an untyped value, and the JSON decoder.
pub async fn metrics_server_answers_protobuf_and_both_forms_say_the_same(cluster: &'static Cluster) -> Result {
    let namespace = cluster.namespace("forms").await?;
    let web = namespace.deployment("web").replicas(2);
    let web = web.container(Container::new("app").usage("250m", "90Mi"));
    let web = web.container(Container::new("sidecar").usage("20m", "16Mi")).create().await?;
    web.wait_ready(SOON).await?;
    let client = cluster.client();

    // Between the two requests metrics-server may have a newer point: then again.
    wait_for("the same list in both forms, with both pods", SOON, || async {
        let answer = fetch(&client, SOON).await?;
        let text = client.request_text(Request::get(PATH).body(Vec::new())?).await?;
        ensure!(answer.format == Format::Protobuf, "asked for protobuf, got {:?}", answer.format);
        let (mut protobuf, mut json) = (Vec::new(), Vec::new());
        answer.decode(|pod| protobuf.push(pod.clone()))?;
        decode_json(text.as_bytes(), |pod| json.push(pod.clone()))?;
        ensure!(protobuf == json, "{protobuf:?} is not {json:?}");
        let here: Vec<_> = protobuf.iter().filter(|pod| pod.namespace == namespace.name()).collect();
        ensure!(here.len() == 2 && here.iter().all(|pod| pod.containers.len() == 2), "{here:?}");
        ensure!(here.iter().all(|pod| is_as_annotated(pod)), "{here:?}");
        same_as_untyped(&protobuf, &serde_json::from_str(&text)?)
    })
    .await
}

fn is_as_annotated(pod: &PodPoints<'_>) -> bool {
    let close = |amount: Option<f64>, annotated: f64| amount.is_some_and(|a| (a / annotated - 1.0).abs() < 0.05);
    pod.containers.iter().all(|point| match &*point.name {
        "app" => close(point.cpu, 0.25) && close(point.memory, 90.0 * 1024.0 * 1024.0),
        _ => close(point.cpu, 0.02) && close(point.memory, 16.0 * 1024.0 * 1024.0),
    })
}

fn same_as_untyped(pods: &[PodPoints<'_>], list: &Value) -> Result {
    let items = list["items"].as_array().context("no items")?;
    ensure!(items.len() == pods.len(), "{} of {} pods", pods.len(), items.len());
    for (item, pod) in items.iter().zip(pods) {
        let names = item["containers"].as_array().into_iter().flatten().map(|container| &container["name"]);
        let same = item["metadata"]["name"] == *pod.pod
            && item["metadata"]["namespace"] == *pod.namespace
            && pod.at.is_some_and(|at| item["timestamp"] == at.to_string())
            && names.eq(pod.containers.iter().map(|ContainerPoint { name, .. }| &**name));
        ensure!(same, "{pod:?} is not {item}");
    }
    Ok(())
}

/// Also a refusal comes as protobuf.
pub async fn a_refusal_to_list_metrics_is_told_in_the_servers_words(cluster: &'static Cluster) -> Result {
    let namespace = cluster.namespace("refused").await?;
    let account = namespace.service_account("nobody").await?;
    let client = cluster.client_for_token(&account.token().await?).await?;
    match fetch(&client, SOON).await {
        Err(ScrapeError::Refused { code: 403, message, advice }) => {
            assert!(message.starts_with("pods.metrics.k8s.io is forbidden: User "), "{message}");
            assert!(advice.contains("pods.metrics.k8s.io"), "{advice}");
            Ok(())
        }
        other => bail!("{other:?}"),
    }
}
