//! LimitRanges, quotas, nodes and VPA: nothing is sent that the API server would refuse, and what is held says why.

use crate::harness::{Harness, SHOP, container, minutes, seconds};
use optipod_sim::Deny;
use serde_json::{Value, json};

const CORE: &str = "v1";

impl Harness {
    fn bound(&self, kind: &str, name: &str, spec: &Value) {
        let object =
            json!({"apiVersion": CORE, "kind": kind, "metadata": {"namespace": SHOP, "name": name}, "spec": spec});
        self.api.create(object).unwrap();
    }

    fn quota(&self, cpu: &str) {
        self.bound("ResourceQuota", "quota", &json!({"hard": {"requests.cpu": cpu}}));
    }

    fn limit_range(&self, item: &Value) {
        let mut item = item.clone();
        item["type"] = json!("Container");
        self.bound("LimitRange", "range", &json!({"limits": [item]}));
    }

    /// Every node can give this much CPU and no more.
    fn shrink_nodes(&self, cpu: &str) {
        for node in ["a", "b"] {
            let mut status = self.api.get(CORE, "Node", "", node).unwrap()["status"].clone();
            status["allocatable"]["cpu"] = json!(cpu);
            self.api.set_status(CORE, "Node", "", node, &status).unwrap();
        }
    }

    /// Messages of all changes that the API server refused.
    fn refused(&self) -> Vec<String> {
        let all = self.changes();
        all.iter().filter(|change| change.code >= 400).map(|change| change.message.clone()).collect()
    }

    fn reason(&self) -> String {
        self.entry("p", "web")["reason"].as_str().unwrap_or_default().to_owned()
    }

    fn message(&self) -> String {
        self.entry("p", "web")["message"].as_str().unwrap_or_default().to_owned()
    }

    /// One pod `web` of 500m, for which 1080m are recommended.
    async fn growing() -> Self {
        let harness = Self::new().await;
        harness.deployment("web", 1).await;
        harness.provider.set("web", 0.9, 400.0);
        harness.policy("p", json!({}));
        harness
    }
}

#[tokio::test(start_paused = true)]
async fn a_recommendation_keeps_to_the_limit_range_and_says_so() {
    let mut harness = Harness::new().await;
    harness.deployment("web", 2).await;
    harness.limit_range(&json!({"min": {"cpu": "300m"}}));
    harness.policy("p", json!({}));
    harness.start(Harness::options());
    minutes(5).await;
    assert_eq!(harness.cpu("web", "web"), ["300m"; 2]);
    let recommended = harness.entry("p", "web")["recommendations"][0].clone();
    assert_eq!(recommended["cpu"], "300m");
    let explanation = recommended["explanation"].as_str().unwrap();
    assert!(explanation.ends_with("; CPU raised to the minimum 300m of LimitRange range"), "{explanation}");
    assert_eq!(harness.refused(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_limit_range_that_would_set_limits_holds_the_resize_but_no_rollout() {
    let mut harness = Harness::new().await;
    harness.deployment("web", 1).await;
    harness.limit_range(&json!({"default": {"cpu": "2"}}));
    harness.policy("p", json!({}));
    harness.start(Harness::options());
    minutes(3).await;
    assert_eq!(harness.reason(), "LimitRangeWouldSetLimits");
    assert!(harness.message().contains("LimitRange range") && harness.message().contains("cpu limit of 2"));
    assert!(harness.changes().is_empty());
    let recreate = json!({"spec": {"updateStrategy": {"allowRecreate": true}}});
    harness.patch("OptimizationPolicy", "optipod-system", "p", &recreate);
    minutes(3).await;
    assert_eq!(harness.cpu("web", "web"), ["250m"]);
    assert_eq!(harness.refused(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_bound_that_the_policy_does_not_reach_is_named() {
    let mut harness = Harness::new().await;
    harness.deployment("web", 1).await;
    harness.limit_range(&json!({"min": {"cpu": "450m"}}));
    let bounds = json!({"cpu": {"min": "10m", "max": "400m"}, "memory": {"min": "16Mi", "max": "8Gi"}});
    harness.policy("p", json!({"resourceBounds": bounds}));
    harness.start(Harness::options());
    minutes(3).await;
    assert_eq!(harness.reason(), "LimitRangeForbids");
    assert!(harness.message().contains("LimitRange range: the minimum of cpu is 450m"), "{}", harness.message());
    assert_eq!(harness.events("web"), ["LimitRangeForbids"]);
    let text = harness.metrics.encode().unwrap();
    let line = "optipod_workloads_skipped{namespace=\"optipod-system\",policy=\"p\",reason=\"LimitRangeForbids\"} 1";
    assert!(text.contains(line), "{text}");
    assert!(harness.changes().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_full_quota_holds_until_there_is_room() {
    let mut harness = Harness::growing().await;
    harness.quota("1");
    harness.start(Harness::options());
    minutes(5).await;
    assert_eq!(harness.reason(), "QuotaExceeded");
    let message = harness.message();
    assert!(message.contains("ResourceQuota quota: the change needs 580m more of requests.cpu, and 500m"), "{message}");
    assert!(harness.changes().is_empty());
    let more = json!({"spec": {"hard": {"requests.cpu": "2"}}});
    harness.api.patch(CORE, "ResourceQuota", SHOP, "quota", "admin", &more).unwrap();
    minutes(2).await;
    assert_eq!(harness.cpu("web", "web"), ["1080m"]);
    assert_eq!(harness.refused(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_rollout_that_would_not_fit_the_quota_is_not_begun() {
    let mut harness = Harness::new().await;
    harness.deployment("web", 2).await;
    harness.quota("1");
    harness.policy("p", json!({"updateStrategy": {"allowInPlaceResize": false, "allowRecreate": true}}));
    harness.start(Harness::options());
    minutes(5).await;
    assert_eq!(
        harness.reason(),
        "QuotaExceeded",
        "smaller pods, but one of them beside the old ones: {}",
        harness.message()
    );
    assert!(harness.changes().is_empty());
    let more = json!({"spec": {"hard": {"requests.cpu": "1250m"}}});
    harness.api.patch(CORE, "ResourceQuota", SHOP, "quota", "admin", &more).unwrap();
    minutes(5).await;
    assert_eq!(harness.cpu("web", "web"), ["250m"; 2]);
}

#[tokio::test(start_paused = true)]
async fn a_pod_is_not_resized_beyond_its_node() {
    let mut harness = Harness::growing().await;
    harness.shrink_nodes("1");
    harness.start(Harness::options());
    minutes(5).await;
    assert_eq!(harness.reason(), "NodeTooSmall");
    assert!(harness.message().contains("would request 1080m of cpu, and its node"), "{}", harness.message());
    assert!(harness.changes().is_empty());
    harness.shrink_nodes("2");
    minutes(2).await;
    assert_eq!(harness.cpu("web", "web"), ["1080m"]);
    assert_eq!(harness.refused(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn without_the_right_to_see_nodes_the_servers_refusal_counts_and_is_no_missing_right() {
    let harness = Harness::growing().await;
    harness.shrink_nodes("1");
    harness.api.deny(Deny::new("list", "nodes"));
    harness.deployment("other", 1).await;
    let controller = harness.controller(Harness::options());
    let readiness = controller.readiness();
    let stop = tokio_util::sync::CancellationToken::new();
    let task = tokio::spawn(controller.run(stop.clone()));
    minutes(10).await;
    assert!(readiness.is_ready());
    assert_eq!(harness.reason(), "NodeTooSmall");
    assert!(harness.message().contains("node didn't have enough allocatable resources"), "{}", harness.message());
    let tried = harness.refused().len();
    assert!((2..=12).contains(&tried), "two workloads, each tried again less and less often: {tried}");
    harness.shrink_nodes("2");
    minutes(12).await;
    assert_eq!(harness.cpu("web", "web"), ["1080m"], "it went on by itself");
    stop.cancel();
    task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_quota_that_counts_some_pods_only_is_left_to_the_api_server() {
    let mut harness = Harness::growing().await;
    // The double counts all pods in it, which stands for a quota that does count these.
    let class = json!({"scopeName": "PriorityClass", "operator": "Exists"});
    let spec = json!({"hard": {"requests.cpu": "1"}, "scopeSelector": {"matchExpressions": [class]}});
    harness.bound("ResourceQuota", "classy", &spec);
    harness.start(Harness::options());
    seconds(5).await;
    assert_eq!(harness.reason(), "QuotaExceeded");
    assert!(harness.message().starts_with("ResourceQuota classy: "), "{}", harness.message());
    assert!(harness.message().contains("exceeded quota: classy, requested: requests.cpu=580m"));
    assert!(harness.events("web").contains(&"ResizeFailed".to_owned()));
    assert_eq!(harness.cpu("web", "web"), ["500m"]);
    assert!(harness.entry("p", "web")["target"].is_null(), "as if it had not begun");
    let text = harness.metrics.encode().unwrap();
    let line = "optipod_reconciliation_errors_total{error_type=\"QuotaExceeded\",policy=\"optipod-system/p\"} 1";
    assert!(text.contains(line), "{text}");
}

pub fn vpa_crd() -> Value {
    json!({"spec": {
        "group": "autoscaling.k8s.io", "scope": "Namespaced",
        "names": {"plural": "verticalpodautoscalers", "singular": "verticalpodautoscaler", "kind": "VerticalPodAutoscaler"},
        "versions": [{"name": "v1", "served": true}],
    }})
}

#[tokio::test(start_paused = true)]
async fn a_vpa_on_the_workload_holds_it_also_when_vpa_is_installed_later() {
    let mut harness = Harness::new().await;
    harness.deployment("web", 1).await;
    harness.policy("p", json!({"updateStrategy": {"cooldown": "5m"}}));
    harness.start(Harness::options());
    seconds(30).await;
    assert_eq!(harness.cpu("web", "web"), ["250m"], "an absent CRD holds nothing");
    harness.api.install_crd(vpa_crd()).unwrap();
    let vpa = |mode: &str| {
        let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"});
        json!({"spec": {"targetRef": target, "updatePolicy": {"updateMode": mode}}})
    };
    let mut object = vpa("Recreate");
    object["apiVersion"] = json!("autoscaling.k8s.io/v1");
    object["kind"] = json!("VerticalPodAutoscaler");
    object["metadata"] = json!({"namespace": SHOP, "name": "web-vpa"});
    harness.api.create(object).unwrap();
    minutes(10).await;
    assert_eq!(harness.changes().len(), 1, "the next step was due after the cooldown");
    assert_eq!(harness.reason(), "VpaOnWorkload");
    assert!(harness.message().contains("web-vpa") && harness.message().contains("updateMode"));
    assert!(harness.events("web").contains(&"VpaOnWorkload".to_owned()));
    harness.api.patch("autoscaling.k8s.io/v1", "VerticalPodAutoscaler", SHOP, "web-vpa", "admin", &vpa("Off")).unwrap();
    minutes(3).await;
    assert_eq!(harness.cpu("web", "web"), ["125m"]);
}

#[tokio::test(start_paused = true)]
async fn quotas_that_cannot_be_seen_hold_every_change_and_no_recommendation() {
    let mut harness = Harness::new().await;
    harness.api.deny(Deny::new("list", "resourcequotas"));
    harness.deployment_with("web", 1, &json!([container("web", "500m", "512Mi")])).await;
    harness.policy("p", json!({}));
    harness.start(Harness::options());
    minutes(3).await;
    assert_eq!(harness.reason(), "WatchMissing");
    assert!(harness.message().contains("resourcequotas"));
    assert_eq!(harness.entry("p", "web")["recommendations"][0]["cpu"], "120m");
    assert!(harness.changes().is_empty());
}
