//! What `/healthz` and `/readyz` say of each role, on the API server double and a paused clock.

use super::*;
use crate::clock::between;
use crate::policy::crd::crd;
use axum::body::{Body, to_bytes};
use axum::http::Request;
use optipod_sim::{ContainerUsage, Deny, Fault, FaultRule, PodPoint, SimApi, SimOptions};
use serde_json::json;
use tower::ServiceExt as _;

const UNSEEN: &str = "waiting for a complete list of configmaps/optipod-brake";
const TICK: Duration = Duration::from_secs(15);

struct Bench {
    sim: SimApi,
    settings: Settings,
    clock: Clock,
    stop: CancellationToken,
    dir: tempfile::TempDir,
}

impl Bench {
    /// A cluster with one pod that has used something.
    fn new() -> Self {
        let sim = SimApi::new(SimOptions::default());
        sim.install_crd(crd()).unwrap();
        sim.create_namespace("shop", &json!({})).unwrap();
        let metadata = json!({"namespace": "shop", "name": "web"});
        let spec = json!({"containers": [{"name": "app", "image": "app"}]});
        sim.create(json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})).unwrap();
        sim.publish_metrics(PodPoint {
            namespace: "shop".into(),
            name: "web".into(),
            timestamp: sim.clock().now(),
            window: TICK,
            containers: vec![ContainerUsage { name: "app".into(), cpu_nanos: 1_000_000, memory_kib: 1024 }],
        });
        let clock = Clock::starting_at(sim.clock().now());
        let dir = tempfile::tempdir().unwrap();
        Self { sim, settings: Settings::default(), clock, stop: CancellationToken::new(), dir }
    }

    fn recommender(&self) -> Recommender {
        let metrics = Metrics::new().unwrap();
        Recommender::open(self.dir.path(), &self.settings, self.sim.client(), &metrics, self.clock).unwrap()
    }

    fn controller(&self, recommender: &Recommender) -> Controller {
        let provider = in_memory(recommender.channel(self.stop.clone()));
        controller_of(&self.settings, self.sim.client(), provider, &Metrics::new().unwrap(), self.clock).unwrap()
    }

    /// Nothing of the API server answers, metrics-server neither.
    fn api_server_is_away(&self) {
        self.sim.faults().cut_watches();
        self.sim.faults().add(FaultRule::new(Fault::DropBefore));
    }
}

/// The code of a probe, and what it says.
async fn ask(probes: &Probes, path: &str) -> (u16, String) {
    let request = Request::get(path).body(Body::empty()).unwrap();
    let answer = web::health_router(probes.clone()).oneshot(request).await.unwrap();
    let code = answer.status().as_u16();
    (code, String::from_utf8(to_bytes(answer.into_body(), 4096).await.unwrap().to_vec()).unwrap())
}

async fn codes(probes: &Probes) -> (u16, u16) {
    (ask(probes, "/healthz").await.0, ask(probes, "/readyz").await.0)
}

async fn minutes(count: u64) {
    tokio::time::sleep(Duration::from_mins(count)).await;
}

#[tokio::test(start_paused = true)]
async fn a_recommender_is_live_until_a_tick_is_overdue_and_ready_while_it_can_answer() {
    let bench = Bench::new();
    let recommender = bench.recommender();
    let probes = recommender.probes();
    assert_eq!(codes(&probes).await, (200, 503), "there is nothing to answer from");
    let (running, stop) = (recommender.clone(), bench.stop.clone());
    let collecting = tokio::spawn(async move { running.collect(stop).await });
    minutes(1).await;
    assert_eq!(codes(&probes).await, (200, 200));

    bench.api_server_is_away();
    for _ in 0..30 {
        minutes(1).await;
        assert_eq!(codes(&probes).await, (200, 200), "a restart would not help, and it can answer");
    }
    let (_, said) = ask(&probes, "/readyz").await;
    assert!(said.contains("ticks failed"), "{said}");
    bench.sim.faults().clear();
    minutes(10).await;
    assert!(ask(&probes, "/readyz").await.1.starts_with("samples stored"));

    // It never comes back from its work.
    collecting.abort();
    let due = recommender.health().state().next_due.unwrap();
    tokio::time::sleep(between(bench.clock.now(), due) + TICK * 4 / 3).await;
    assert_eq!(codes(&probes).await, (200, 200), "late by less than one and a half intervals");
    tokio::time::sleep(TICK / 3).await;
    assert_eq!(codes(&probes).await, (503, 200));
    let (_, said) = ask(&probes, "/healthz").await;
    assert!(said.contains("the collector is stuck"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn a_controller_is_ready_once_its_caches_are_filled_and_live_whatever_answers() {
    let bench = Bench::new();
    bench.sim.deny(Deny::new("list", "horizontalpodautoscalers.autoscaling"));
    let recommender = bench.recommender();
    let controller = bench.controller(&recommender);
    let (probes, both) = (controller_probes(&controller), both_probes(&recommender, &controller));
    assert_eq!(codes(&probes).await, (200, 503));
    tokio::spawn(controller.run(bench.stop.clone()));
    minutes(3).await;
    assert_eq!(codes(&probes).await, (200, 503));
    assert_eq!(ask(&probes, "/readyz").await.1, "waiting for a complete list of horizontalpodautoscalers\n");
    bench.sim.allow_all();
    minutes(3).await;
    assert_eq!(codes(&probes).await, (200, 200));
    assert_eq!(codes(&both).await, (200, 503), "the recommender of the same process is not");

    bench.api_server_is_away();
    for _ in 0..30 {
        minutes(1).await;
        assert_eq!(ask(&probes, "/healthz").await.0, 200, "a restart would not help");
        let (_, said) = ask(&probes, "/readyz").await;
        assert_eq!(said, format!("{UNSEEN}\n"), "its caches are filled; a brake that it cannot see counts as on");
    }
    bench.sim.faults().clear();
    minutes(3).await;
    assert_eq!(codes(&probes).await, (200, 200));
    bench.stop.cancel();
}
