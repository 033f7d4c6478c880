//! What a policy says of its provider, with a controller on the simulated cluster.

use super::super::cluster::Harness;
use super::super::harness::Result;
use super::double::{Double, Reply, usual};
use anyhow::ensure;
use optipod::clock::Clock;
use optipod::controller::{Controller, Deps, Providers};
use optipod::provider::{PrometheusOptions, PrometheusProvider};
use serde_json::{Value, json};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// A controller with the policy `p` for the Deployment `web`, by Prometheus as these options say, and `q` for `other`.
async fn controlled(options: PrometheusOptions) -> Harness {
    tokio::time::pause(); // until the pods run
    let harness = Harness::new().await;
    for (policy, app, provider) in [("p", "web", "prometheus"), ("q", "other", "fake")] {
        harness.deployment(app, 1).await;
        let selector = json!({"workloadSelector": {"matchLabels": {"app": app}}});
        let spec = json!({"mode": "Recommend", "selector": selector, "metricsConfig": {"provider": provider}});
        harness.policy(policy, spec);
    }
    tokio::time::resume(); // for sockets
    let clock = Clock::starting_at(harness.api.clock().now());
    let prometheus = PrometheusProvider::start(options, clock);
    let providers = Providers::new("fake").with("fake", harness.provider.clone()).with("prometheus", prometheus);
    let deps = Deps { client: harness.api.client(), providers, metrics: harness.metrics.clone(), clock };
    tokio::spawn(Controller::new(deps, Harness::options()).run(CancellationToken::new()));
    harness
}

/// Waits until both policies say whether they have usage.
async fn said(harness: &Harness) -> Result<[Value; 2]> {
    for _ in 0..600 {
        let conditions = ["p", "q"].map(|policy| harness.condition(policy, "MetricsAvailable"));
        if conditions.iter().all(|condition| condition["status"].is_string()) {
            return Ok(conditions);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    anyhow::bail!("no conditions: {} {}", harness.status("p"), harness.status("q"))
}

/// A policy whose provider is asked like this says so, and the other has its usage.
async fn says(url: String, part: &str) -> Result {
    let harness = controlled(PrometheusOptions::new(url)).await;
    let [prometheus, other] = said(&harness).await?;
    let message = prometheus["message"].as_str().unwrap_or_default();
    assert_eq!((prometheus["status"].as_str(), other["status"].as_str()), (Some("False"), Some("True")));
    assert!(message.contains(part), "{message}");
    Ok(())
}

pub async fn a_policy_says_what_is_wrong_with_its_provider_and_others_go_on() -> Result {
    let refusing = Double::start(|_| Reply::Status(401, "X-Test: 1", "who are you?".into())).await;
    says(refusing.url(), "401: who are you?; check the files").await
}

pub async fn a_provider_that_cannot_start_says_why_and_others_go_on() -> Result {
    says("nowhere".to_owned(), "prometheus.url").await
}

pub async fn the_explanation_says_how_pods_were_told() -> Result {
    let server = Double::start(|asked| usual(asked, &["web-6d4cf56db6-x2x45"], "").replace("app", "web")).await;
    let harness = controlled(PrometheusOptions::new(server.url())).await;
    let [prometheus, _] = said(&harness).await?;
    ensure!(prometheus["status"] == "True", "{prometheus}");
    let entry = harness.entry("p", "web").to_string();
    assert!(entry.contains("P90 0.25 cores") && entry.contains("told by their names"), "{entry}");
    Ok(())
}
