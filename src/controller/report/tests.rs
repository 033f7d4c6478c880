//! Every reason is told alike in status, event, metric and explanation.

use crate::cli::explanation;
use crate::clock::Clock;
use crate::controller::apply::{Applied, Outcome};
use crate::controller::ingest;
use crate::controller::observe::Observation;
use crate::controller::plan::{Planned, Verdict};
use crate::controller::report::Before;
use crate::controller::schedule::Focus;
use crate::controller::{Controller, ControllerOptions, Deps, Providers};
use crate::decide::testing::every_reason;
use crate::decide::{EventOn, Reason};
use crate::policy::{OptimizationPolicy, Policy};
use crate::telemetry::Metrics;
use k8s_openapi::api::apps::v1::Deployment;
use optipod_sim::{SimApi, SimOptions};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

const KIND: (&str, &str) = ("optipod.io/v1alpha1", "OptimizationPolicy");

fn cluster() -> SimApi {
    let api = SimApi::new(SimOptions::default());
    api.install_crd(crate::policy::crd::crd()).unwrap();
    api.create_namespace("shop", &json!({})).unwrap();
    api
}

fn controller(api: &SimApi) -> Controller {
    let (client, clock) = (api.client(), Clock::starting_at(api.clock().now()));
    let deps = Deps { client, providers: Providers::new("none"), metrics: Metrics::new().unwrap(), clock };
    Controller::new(deps, ControllerOptions::new("shop", "optipod-0"))
}

/// A policy of this name in the cluster.
fn policy(api: &SimApi, name: &str) -> Policy {
    let object = json!({
        "apiVersion": KIND.0, "kind": KIND.1, "metadata": {"namespace": "shop", "name": name},
        "spec": {
            "mode": "Auto", "selector": {"namespaces": {"allow": ["shop"]}},
            "resourceBounds": {"cpu": {"min": "10m", "max": "4"}, "memory": {"min": "32Mi", "max": "8Gi"}},
        },
    });
    let created: OptimizationPolicy = serde_json::from_value(api.create(object).unwrap()).unwrap();
    Policy::resolve(&created).unwrap()
}

/// Workloads of these names, each held for `reason`.
fn held(names: &[&str], reason: &Reason) -> Vec<Applied> {
    let one = |name: &&str| {
        let metadata = json!({"namespace": "shop", "name": name, "uid": format!("uid-of-{name}")});
        let object = json!({"metadata": metadata, "spec": {"selector": {}, "template": {}}});
        let workload = ingest::deployment(serde_json::from_value::<Deployment>(object).unwrap()).into();
        let verdict = Verdict::Hold(reason.clone());
        let planned = Planned { workload, verdict, outcomes: Vec::new(), current: Vec::new(), watch: None };
        Applied { planned, outcome: Outcome::Nothing }
    };
    names.iter().map(one).collect()
}

async fn report(controller: &mut Controller, policy: &Policy, applied: Vec<Applied>) {
    let observation = Observation {
        policy: policy.clone(),
        now: controller.clock.now(),
        workloads: Vec::new(),
        overridden: Vec::new(),
        resize_served: true,
        blocked: None,
        unavailable: None,
    };
    let state = controller.policies.entry(policy.id.clone()).or_default();
    state.uid.clone_from(&policy.uid);
    controller.report(&observation, &Focus::All, applied, &Before::new()).await;
}

/// Writes the events that were told, and answers those about one object: type, reason and note (which the core API calls message).
async fn events(api: &SimApi, controller: &mut Controller, about: &str) -> Vec<[String; 3]> {
    if let Some(beside) = controller.beside.take() {
        let stop = CancellationToken::new();
        stop.cancel();
        beside.events.run(stop).await;
    }
    let all = api.list("v1", "Event");
    let text = |event: &Value, field: &str| event[field].as_str().unwrap_or_default().to_owned();
    let about = all.iter().filter(|event| event["involvedObject"]["name"] == about);
    about.map(|event| ["type", "reason", "message"].map(|field| text(event, field))).collect()
}

#[tokio::test(start_paused = true)]
async fn each_reason_stands_in_the_status_in_an_event_as_label_of_the_metric_and_in_what_explain_prints() {
    for reason in every_reason() {
        let (code, message) = (reason.code(), reason.to_string());
        let api = cluster();
        let (mut controller, policy) = (controller(&api), policy(&api, "all"));

        report(&mut controller, &policy, held(&["api", "web"], &reason)).await;

        let stored = api.get(KIND.0, KIND.1, "shop", "all").unwrap();
        let entries = stored["status"]["workloads"].as_array().unwrap();
        for entry in entries {
            assert_eq!((&entry["reason"], &entry["message"]), (&json!(code), &json!(message)), "{entry}");
        }
        assert_eq!(entries.len(), 2, "{code}: {stored}");

        let metric = format!("optipod_workloads_skipped{{namespace=\"shop\",policy=\"all\",reason=\"{code}\"}} 2\n");
        let text = controller.metrics.encode().unwrap();
        assert!(text.contains(&metric), "{metric} is not in\n{text}");

        let policies = [serde_json::from_value(stored).unwrap()];
        let explained = explanation(&policies, "shop", &"deployment/web".parse().unwrap());
        assert!(explained.contains(&format!(", {code}: {message}\n")), "{code} is not in\n{explained}");

        let mut told = Vec::new();
        for object in ["all", "api", "web"] {
            told.push(events(&api, &mut controller, object).await);
        }
        match reason.event_on() {
            EventOn::Workload => {
                let event = ["Warning".to_owned(), code.to_owned(), message];
                assert_eq!(told, [vec![], vec![event.clone()], vec![event]]);
            }
            EventOn::Policy => {
                let [[severity, reason, note]] = &told[0][..] else { panic!("{code}: {told:?}") };
                let expected = if is_grave(code) { "Warning" } else { "Normal" };
                assert_eq!((severity.as_str(), reason.as_str()), (expected, code), "{told:?}");
                assert_eq!(*note, format!("2 workloads, the first Deployment shop/api: {message}"));
                assert!(told[1].is_empty() && told[2].is_empty(), "{told:?}");
            }
        }
    }
}

/// What holds all workloads alike and is not as it should be.
fn is_grave(code: &str) -> bool {
    ["BrakeOn", "CircuitOpen", "MetricsUnavailable", "StaleData"].contains(&code)
}

#[tokio::test(start_paused = true)]
async fn a_policy_tells_each_reason_once_however_often_it_comes_and_goes() {
    let api = cluster();
    let (mut controller, policy) = (controller(&api), policy(&api, "all"));
    for _ in 0..100 {
        for reason in [Reason::BudgetSpent { per_cycle: 1 }, Reason::ResizeInProgress { done: 1, pods: 3 }] {
            report(&mut controller, &policy, held(&["web"], &reason)).await;
            tokio::time::advance(std::time::Duration::from_mins(5)).await;
        }
    }
    let told: Vec<String> =
        events(&api, &mut controller, "all").await.into_iter().map(|[_, reason, _]| reason).collect();
    assert_eq!(told, ["BudgetSpent", "ResizeInProgress"]);
    let repeated = api.list("v1", "Event").iter().any(|event| !event["series"].is_null());
    assert!(!repeated, "nor are they counted up");
}

#[tokio::test(start_paused = true)]
async fn where_many_events_wait_those_of_what_passes_by_itself_follow_in_a_later_cycle() {
    let api = cluster();
    let (mut controller, policy) = (controller(&api), policy(&api, "all"));
    let crowd: Vec<String> = (0..600).map(|number| format!("w{number:03}")).collect();
    let crowd: Vec<&str> = crowd.iter().map(String::as_str).collect();
    report(&mut controller, &policy, held(&crowd, &Reason::QosWouldChange)).await;
    report(&mut controller, &policy, held(&crowd, &Reason::RolloutPaused)).await;
    let (recorder, later) =
        crate::telemetry::events::Events::new(controller.executor.writer.clone(), controller.clock, "later".to_owned());
    assert!(events(&api, &mut controller, "all").await.is_empty(), "600 warnings wait");
    (controller.events, controller.beside) = (recorder, Some(super::super::Beside { events: later, elector: None }));
    report(&mut controller, &policy, held(&crowd, &Reason::RolloutPaused)).await;
    let [[_, reason, note]] = &events(&api, &mut controller, "all").await[..] else { panic!("not told once") };
    assert!(reason == "RolloutPaused" && note.starts_with("600 workloads, the first Deployment shop/w000: "), "{note}");
}
