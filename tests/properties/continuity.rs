//! What goes on: other providers, other versions, and quiet.

use crate::cases::simulate_all;
use crate::harness::{Harness, minutes, seconds};
use crate::world::{cluster, recommended, told, workloads, writes_to};
use jiff::SignedDuration;
use optipod::clock::Clock;
use optipod::controller::{Controller, Deps, Providers};
use optipod::policy::OptimizationPolicy;
use optipod::provider::{ProviderError, UsageProvider, UsageQuery};
use optipod::usage::{ResourceUsage, WindowUsage};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// A provider that the controller has never heard of: every container uses this many cores and as many GiB.
struct Steady {
    name: &'static str,
    cores: f64,
    clock: Clock,
}

#[async_trait::async_trait]
impl UsageProvider for Steady {
    fn name(&self) -> &str {
        self.name
    }

    async fn usage(&self, queries: &[UsageQuery]) -> Result<Vec<Option<WindowUsage>>, ProviderError> {
        let flat = |p: f64| ResourceUsage { p50: p, p90: p, p99: p, mean: p, peak: p, samples: 5760 };
        let to = self.clock.now();
        let answer = |query: &UsageQuery| WindowUsage {
            cpu: flat(self.cores),
            memory: flat(self.cores * 1_073_741_824.0),
            from: to - SignedDuration::try_from(query.window).unwrap(),
            to,
            covered: query.window,
            notes: Vec::new(),
        };
        Ok(queries.iter().map(|query| Some(answer(query))).collect())
    }
}

const PROVIDERS: [&str; 3] = ["metrics-server", "prometheus", "custom"];

// Feature: k8s-workload-rightsizing, Property 30: Metrics provider configurability
#[test]
fn property_30_a_policy_s_provider_answers_and_one_that_is_not_there_is_named_and_nothing_changed() {
    let names = option::of(select(vec!["metrics-server", "prometheus", "custom", "nowhere"]));
    let case = (workloads(), vec(names, 3), select(PROVIDERS.to_vec()), [0.2..3.0f64, 0.2..3.0, 0.2..3.0]);
    simulate_all(case, async |(workloads, chosen, default, cores)| {
        let harness = cluster(&workloads).await;
        let clock = Clock::starting_at(harness.api.clock().now());
        let mut providers = Providers::new(default);
        for (name, cores) in PROVIDERS.into_iter().zip(cores) {
            providers = providers.with(name, Arc::new(Steady { name, cores, clock }));
        }
        for (workload, name) in workloads.iter().zip(&chosen) {
            let metrics = name.map_or(json!({}), |name| json!({"provider": name}));
            let selector = json!({"workloadSelector": {"matchLabels": workload.labels}});
            harness.policy(&workload.name, json!({"selector": selector, "metricsConfig": metrics}));
        }
        let deps = Deps { client: harness.api.client(), providers, metrics: harness.metrics.clone(), clock };
        tokio::spawn(Controller::new(deps, Harness::options()).run(CancellationToken::new()));
        seconds(5).await;
        for (workload, name) in workloads.iter().zip(&chosen) {
            let entry = harness.entry(&workload.name, &workload.name);
            let Some(index) = PROVIDERS.iter().position(|one| *one == name.unwrap_or(default)) else {
                assert!(writes_to(&harness, &workload.name).is_empty());
                let condition = harness.condition(&workload.name, "MetricsAvailable");
                assert_eq!((&condition["status"], &entry["reason"]), (&json!("False"), &json!("MetricsUnavailable")));
                let message = condition["message"].as_str().unwrap();
                assert!(["nowhere"].iter().chain(&PROVIDERS).all(|name| message.contains(name)), "{message}");
                continue;
            };
            let expected = recommended(cores[index], cores[index] * 1024.0);
            assert!(told(&entry).values().all(|told| *told == expected), "{expected:?} of {name:?}: {entry}");
        }
    });
}

/// Fields that were not in every version, and may be missing in what an older one wrote.
const NEWER: [&str; 6] = ["uid", "raised", "message", "lastRecommendation", "method", "reason"];

// Feature: k8s-workload-rightsizing, Property 31: Upgrade preservation
#[test]
fn property_31_a_status_of_another_version_is_gone_on_with_and_nothing_in_it_is_lost() {
    let case = (workloads(), subsequence(NEWER.to_vec(), 0..=6), any::<bool>());
    simulate_all(case, async |(workloads, missing, with_summary)| {
        let mut harness = cluster(&workloads).await;
        harness.policy("p", json!({"updateStrategy": {"cooldown": "7d"}}));
        harness.start(Harness::options());
        seconds(40).await;
        harness.stop().await;
        let mut old = harness.status("p");
        for entry in old["workloads"].as_array_mut().unwrap() {
            entry.as_object_mut().unwrap().retain(|field, _| !missing.contains(&field.as_str()));
        }
        let foreign = json!({"type": "Reviewed", "status": "True", "reason": "ByHand", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z"});
        old["conditions"].as_array_mut().unwrap().push(foreign.clone());
        if !with_summary {
            old.as_object_mut().unwrap().remove("summary");
        }
        let kept = harness.api.set_status("optipod.io/v1alpha1", "OptimizationPolicy", "optipod-system", "p", &old);
        kept.unwrap();
        let stored = harness.api.get("optipod.io/v1alpha1", "OptimizationPolicy", "optipod-system", "p").unwrap();
        let typed: OptimizationPolicy = serde_json::from_value(stored.clone()).unwrap();
        let again = serde_json::to_value(&typed).unwrap();
        assert_eq!((&again["spec"], &again["status"]["workloads"]), (&stored["spec"], &stored["status"]["workloads"]));
        harness.api.clear_journal();
        harness.start(Harness::options());
        minutes(2).await;
        assert_eq!(harness.changes().len(), 0, "the cooldown of before holds: {:?}", harness.changes());
        assert!(harness.status("p")["conditions"].as_array().unwrap().contains(&foreign));
        for before in old["workloads"].as_array().unwrap() {
            let after = harness.entry("p", before["name"].as_str().unwrap());
            for field in ["lastApplied", "target", "previous", "recommendations"] {
                assert_eq!(after[field], before[field], "{field}");
            }
        }
    });
}

// Feature: k8s-workload-rightsizing, Property 32: API call efficiency
#[test]
fn property_32_at_rest_the_api_server_is_asked_next_to_nothing_however_many_workloads_there_are() {
    simulate_all((workloads(), 1..=4u64), async |(workloads, policies)| {
        let mut harness = cluster(&workloads).await;
        for number in 0..policies {
            let mode = if number == 0 { "Auto" } else { "Recommend" };
            let selector = json!({"namespaces": {"allow": ["shop"]}});
            let strategy = json!({"cooldown": "7d"});
            let spec: Value = json!({"mode": mode, "weight": 1000 - number, "selector": selector,
                "updateStrategy": strategy, "reconciliationInterval": "10s"});
            harness.policy(&format!("p{number}"), spec);
        }
        harness.start(Harness::options());
        // Changes are watched for some minutes, at whose end the status says so.
        minutes(11).await;
        harness.api.clear_journal();
        let asked = *harness.provider.questions.lock().unwrap();
        tokio::time::sleep(Duration::from_mins(4)).await;
        assert!(*harness.provider.questions.lock().unwrap() >= asked + 23, "it was at work");
        let calls: Vec<_> = harness.api.journal().into_iter().filter(|call| call.verb != "watch").collect();
        let told: Vec<_> = calls.iter().map(|call| format!("{} {}", call.method, call.path)).collect();
        let is_read = |verb: &str| ["get", "list"].contains(&verb);
        assert!(!calls.iter().any(|call| is_read(&call.verb)), "nothing is read that is watched: {told:?}");
        // Each change is told once more when it has proved itself.
        let writes = calls.iter().filter(|call| call.resource == "optimizationpolicies").count();
        assert!(writes <= workloads.len(), "{writes} statuses written: {told:?}");
        // Rights are asked for again after five minutes (pods/resize and each kind), discovery after ten, and whether
        // VerticalPodAutoscalers are served each minute.
        assert!(calls.len() - writes <= 9, "{} calls in four minutes: {told:?}", calls.len());
    });
}
