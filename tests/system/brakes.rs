//! The brakes: each stops every write but status and events within a second, also in the middle of a batch; released, the
//! change goes on. Judged at the API double, by the time of arrival.

use crate::harness::{Harness, SHOP, container, minutes, seconds};
use optipod::controller::ControllerOptions;
use optipod_sim::{Deny, Entry, Fault, FaultRule};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::sleep;

const OPERATOR: &str = "optipod-system";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Brake {
    ConfigMap,
    Namespace,
    Workload,
    Pod,
    Disabled,
    DryRun,
}

const ALL: [Brake; 6] =
    [Brake::ConfigMap, Brake::Namespace, Brake::Workload, Brake::Pod, Brake::Disabled, Brake::DryRun];

impl Brake {
    /// Sets or releases it, on Deployment `web` and policy `p`.
    async fn turn(self, harness: &mut Harness, on: bool) {
        let value = if on { json!("until we know more") } else { json!(null) };
        let hold = json!({"metadata": {"annotations": {"optipod.io/hold": value}}});
        match self {
            Self::ConfigMap if on => config_map(harness, &json!({"reason": "incident 42"})),
            Self::ConfigMap => release(harness),
            Self::Namespace => harness.patch("Namespace", "", SHOP, &hold),
            Self::Workload => harness.patch("Deployment", SHOP, "web", &hold),
            // The last pod, which comes last of all.
            Self::Pod => harness.patch("Pod", SHOP, &last_pod(harness), &hold),
            Self::Disabled => {
                let mode = if on { "Disabled" } else { "Auto" };
                harness.patch("OptimizationPolicy", OPERATOR, "p", &json!({"spec": {"mode": mode}}));
            }
            Self::DryRun => {
                harness.stop().await;
                harness.start(ControllerOptions { dry_run: on, ..Harness::options() });
            }
        }
    }

    /// The reason in the status of `web`; a disabled policy says it in its condition.
    fn reason(self, harness: &Harness) -> (Value, &'static str) {
        let said = match self {
            Self::Disabled => harness.condition("p", "Applying")["reason"].clone(),
            _ => harness.entry("p", "web")["reason"].clone(),
        };
        match self {
            Self::ConfigMap => (said, "BrakeOn"),
            Self::Namespace | Self::Workload | Self::Pod => (said, "HeldByAnnotation"),
            Self::Disabled => (said, "DisabledMode"),
            Self::DryRun => (said, "DryRun"),
        }
    }
}

fn config_map(harness: &Harness, data: &Value) {
    let metadata = json!({"namespace": OPERATOR, "name": "optipod-brake"});
    harness.api.create(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})).unwrap();
}

fn release(harness: &Harness) {
    harness.api.delete("v1", "ConfigMap", OPERATOR, "optipod-brake").unwrap();
}

fn last_pod(harness: &Harness) -> String {
    let pods = harness.pods("web");
    let names = pods.iter().map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned());
    names.max().unwrap()
}

fn now_ms(harness: &Harness) -> u64 {
    u64::try_from(harness.api.clock().elapsed().as_millis()).unwrap()
}

/// Changes within the brake's reach that arrived later than a second after `at`.
fn late(harness: &Harness, brake: Brake, at: u64) -> Vec<(u64, String)> {
    let reaches = |path: &str| match brake {
        Brake::Workload | Brake::Pod => path.contains("/pods/web-"),
        _ => true,
    };
    let changes = harness.changes().into_iter().filter(|write| write.at_ms > at + 1000 && reaches(&write.path));
    changes.map(|write| (write.at_ms, write.path)).collect()
}

/// Every answer to a change takes `ms`, so that a batch lasts.
fn slow_changes(harness: &Harness, resource: &str, ms: u64) {
    let fault = Fault::Latency(Duration::from_millis(ms));
    harness.api.faults().add(FaultRule::new(fault).verb("patch").on(resource));
}

/// Policy `p` at work for `after_ms` on Deployments `a-0`, `a-1`, … of one pod and then `web`, when the brake is set.
async fn braked(brake: Brake, (others, pods): (u32, u32), answer_ms: u64, after_ms: u64) -> (Harness, u64) {
    let mut harness = Harness::new().await;
    for i in 0..others {
        harness.create_deployment(&format!("a-{i}"), 1, &json!([container("web", "500m", "512Mi")]));
    }
    harness.deployment("web", pods).await;
    harness.policy("p", json!({}));
    slow_changes(&harness, "pods/resize", answer_ms);
    harness.start(Harness::options());
    sleep(Duration::from_millis(after_ms)).await;
    let at = now_ms(&harness);
    brake.turn(&mut harness, true).await;
    (harness, at)
}

#[tokio::test(start_paused = true)]
async fn each_brake_stops_a_running_batch_and_released_it_goes_on() {
    for brake in ALL {
        // Batches of 3 pods, one every 2 s.
        let (mut harness, at) = braked(brake, (0, 60), 2000, 2500).await;
        minutes(3).await;
        assert_eq!(late(&harness, brake, at), [], "{brake:?}");
        let done = harness.changes().len();
        assert_eq!(done, 2, "of a batch of 3: {brake:?} is set after the second write has been sent");
        let (said, expected) = brake.reason(&harness);
        assert_eq!(said, expected, "{brake:?}");
        harness.api.faults().clear();
        brake.turn(&mut harness, false).await;
        minutes(6).await;
        assert_eq!(harness.cpu("web", "web"), vec!["250m"; 60], "{brake:?}");
        assert_eq!(
            said_before(&harness, harness.changes()[done].seq),
            "Applying",
            "{brake:?}: it is announced that it goes on"
        );
    }
}

/// What the last status before a request says of `web`.
fn said_before(harness: &Harness, seq: u64) -> Value {
    let statuses = harness.writes(|entry| entry.subresource == "status" && entry.seq < seq);
    let of_web = |entry: &Entry| {
        let workloads = entry.body["status"]["workloads"].as_array()?;
        Some(workloads.iter().find(|workload| workload["name"] == "web")?["status"].clone())
    };
    statuses.iter().rev().find_map(of_web).unwrap_or_default()
}

/// What one case of the property saw go wrong.
async fn case(brake: Brake, others: u32, pods: u32, answer_ms: u64, after_ms: u64) -> Result<(), TestCaseError> {
    let (mut harness, at) = braked(brake, (others, pods), answer_ms, after_ms).await;
    seconds(70).await;
    prop_assert_eq!(late(&harness, brake, at), vec![]);
    harness.api.faults().clear();
    brake.turn(&mut harness, false).await;
    // The next cycle at the latest goes on; then one pod follows another.
    seconds(70 + u64::from(pods) * 10).await;
    prop_assert_eq!(harness.cpu("web", "web"), vec!["250m"; pods as usize]);
    harness.stop().await;
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, max_shrink_iters: 64, ..ProptestConfig::default() })]

    #[test]
    fn whichever_brake_whenever_it_is_set_nothing_is_changed_a_second_later(
        brake in prop::sample::select(ALL.to_vec()),
        // Each evaluation sends as many changes, one after another.
        others in 0u32..5,
        pods in 1u32..7,
        answer_ms in 0u64..4000,
        after_ms in 0u64..20_000,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(case(brake, others, pods, answer_ms, after_ms))?;
    }
}

#[tokio::test(start_paused = true)]
async fn between_two_templates_the_brake_is_asked_anew() {
    let mut harness = Harness::new().await;
    for name in ["a", "b", "c", "d"] {
        harness.deployment(name, 1).await;
    }
    harness.policy("p", json!({"updateStrategy": {"allowInPlaceResize": false, "allowRecreate": true}}));
    slow_changes(&harness, "deployments.apps", 800);
    harness.start(Harness::options());
    seconds(1).await;
    let at = now_ms(&harness);
    config_map(&harness, &json!({}));
    minutes(3).await;
    assert_eq!(late(&harness, Brake::ConfigMap, at), []);
    assert_eq!(harness.changes().len(), 2);
    let untouched = harness.entry("p", "d");
    assert_eq!(untouched["reason"], "BrakeOn");
    assert!(untouched["target"].is_null() && untouched["lastApplied"].is_null(), "as if it had not begun: {untouched}");
    harness.api.faults().clear();
    release(&harness);
    minutes(3).await;
    for name in ["a", "b", "c", "d"] {
        assert_eq!(harness.cpu(name, "web"), ["250m"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_that_is_repeated_after_a_conflict_asks_again() {
    let mut harness = Harness::new().await;
    harness.deployment("web", 1).await;
    harness.policy("p", json!({}));
    harness.api.faults().add(FaultRule::new(Fault::Conflict).verb("patch").on("pods/resize").times(1));
    // The watch's list is answered at once, the one after the conflict is slow.
    let mut slow = FaultRule::new(Fault::Latency(Duration::from_secs(5))).verb("list").on("pods");
    slow.skip = 1;
    harness.api.faults().add(slow);
    harness.start(Harness::options());
    seconds(2).await;
    config_map(&harness, &json!({}));
    minutes(3).await;
    assert_eq!(harness.changes().len(), 1, "the write that met the conflict");
    assert_eq!(harness.entry("p", "web")["reason"], "BrakeOn");
}

#[tokio::test(start_paused = true)]
async fn the_config_map_is_told_everywhere_and_deleting_it_is_enough() {
    let mut harness = Harness::new().await;
    harness.deployment("web", 2).await;
    config_map(&harness, &json!({"reason": "incident 42"}));
    harness.policy("p", json!({"reconciliationInterval": "1h"}));
    harness.start(Harness::options());
    minutes(5).await;
    assert!(harness.changes().is_empty());
    let entry = harness.entry("p", "web");
    assert_eq!((entry["status"].as_str(), entry["reason"].as_str()), (Some("Skipped"), Some("BrakeOn")));
    let message = entry["message"].as_str().unwrap();
    assert!(message.contains("optipod-system/optipod-brake") && message.contains("\"incident 42\""), "{message}");
    assert_eq!(entry["recommendations"][0]["cpu"], "120m", "it is recommended all the same");
    let applying = harness.condition("p", "Applying");
    assert_eq!((applying["status"].as_str(), applying["reason"].as_str()), (Some("False"), Some("BrakeOn")));
    assert_eq!(harness.events("p"), ["BrakeOn"]);
    let text = harness.metrics.encode().unwrap();
    let skipped = "optipod_workloads_skipped{namespace=\"optipod-system\",policy=\"p\",reason=\"BrakeOn\"} 1";
    assert!(text.contains(skipped) && text.contains("optipod_brake_on 1"), "{text}");
    release(&harness);
    seconds(30).await;
    assert_eq!(harness.cpu("web", "web"), ["250m"; 2], "without waiting for the next cycle, which is in an hour");
    assert_eq!(harness.condition("p", "Applying")["reason"], "AutoMode");
    assert!(harness.metrics.encode().unwrap().contains("optipod_brake_on 0"));
    config_map(&harness, &json!({}));
    seconds(1).await;
    assert_eq!(harness.entry("p", "web")["reason"], "BrakeOn", "and set again, it is told at once");
}

#[tokio::test(start_paused = true)]
async fn a_brake_for_some_namespaces_holds_those_alone() {
    let mut harness = Harness::new().await;
    harness.deployment("web", 2).await;
    config_map(&harness, &json!({"namespaces": "bank\nother"}));
    harness.policy("p", json!({}));
    harness.start(Harness::options());
    minutes(2).await;
    assert_eq!(harness.cpu("web", "web"), ["250m"; 2]);
    let data = json!({"data": {"namespaces": "bank, shop"}});
    harness.patch("ConfigMap", OPERATOR, "optipod-brake", &data);
    seconds(1).await;
    assert_eq!(harness.entry("p", "web")["reason"], "BrakeOn");
    assert_eq!(harness.condition("p", "Applying")["reason"], "AutoMode", "the policy may cover other namespaces");
}

#[tokio::test(start_paused = true)]
async fn without_the_right_to_see_the_brake_nothing_is_changed_and_readiness_says_so() {
    let harness = Harness::new().await;
    harness.deployment("web", 2).await;
    harness.policy("p", json!({"reconciliationInterval": "1h"}));
    harness.api.deny(Deny::new("list", "configmaps"));
    let controller = harness.controller(Harness::options());
    let readiness = controller.readiness();
    let stop = tokio_util::sync::CancellationToken::new();
    let task = tokio::spawn(controller.run(stop.clone()));
    minutes(5).await;
    assert_eq!(readiness.missing(), ["configmaps/optipod-brake"]);
    assert!(harness.changes().is_empty());
    let entry = harness.entry("p", "web");
    assert_eq!(entry["reason"], "WatchMissing");
    assert!(entry["message"].as_str().unwrap().contains("configmaps/optipod-brake"), "{entry}");
    harness.api.allow_all();
    minutes(2).await;
    assert!(readiness.is_ready());
    assert_eq!(harness.cpu("web", "web"), ["250m"; 2]);
    // The right is taken away again while it works.
    for verb in ["list", "watch"] {
        harness.api.deny(Deny::new(verb, "configmaps"));
    }
    harness.api.faults().cut_watches();
    minutes(1).await;
    assert_eq!(readiness.missing(), ["configmaps/optipod-brake"]);
    let before = harness.changes().len();
    harness.patch("Deployment", SHOP, "web", &json!({"spec": {"replicas": 4}}));
    minutes(70).await;
    assert_eq!(harness.changes().len(), before);
    assert_eq!(harness.entry("p", "web")["reason"], "WatchMissing");
    harness.api.allow_all();
    minutes(3).await;
    assert!(readiness.is_ready());
    assert!(harness.cpu("web", "web").iter().all(|cpu| cpu != "500m"), "{:?}", harness.cpu("web", "web"));
    stop.cancel();
    task.await.unwrap();
}
