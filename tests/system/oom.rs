//! A container that is killed for memory gets more at once, and is not given less again for a while.

use crate::harness::{Harness, SHOP, minutes, seconds};
use serde_json::{Value, json};

/// A container that requests what it uses, with a limit. The policy's next cycle is an hour away.
async fn sized(replicas: u32, policy: Value) -> Harness {
    let mut harness = Harness::new().await;
    let resources = json!({"requests": {"cpu": "120m", "memory": "120Mi"}, "limits": {"memory": "200Mi"}});
    harness
        .deployment_with("web", replicas, &json!([{"name": "web", "image": "example/app", "resources": resources}]))
        .await;
    let mut spec = json!({"reconciliationInterval": "1h", "metricsConfig": {"rollingWindow": "2h"}});
    spec.as_object_mut().unwrap().extend(policy.as_object().unwrap().clone());
    harness.policy("p", spec);
    harness.start(Harness::options());
    minutes(5).await;
    assert!(harness.changes().is_empty());
    assert_eq!(recommended(&harness), "120Mi");
    harness
}

fn recommended(harness: &Harness) -> String {
    harness.entry("p", "web")["recommendations"][0]["memory"].as_str().unwrap().to_owned()
}

async fn kill(harness: &Harness) {
    let pod = harness.pods("web")[0]["metadata"]["name"].as_str().unwrap().to_owned();
    assert!(harness.cluster.crash(SHOP, &pod, "web", "OOMKilled"));
    // The kubelet tells of it with its next step, which is within five seconds.
    let told = || harness.pods("web").iter().any(|pod| pod["status"]["containerStatuses"][0]["restartCount"] == 1);
    for _ in 0..5 {
        if !told() {
            seconds(1).await;
        }
    }
    assert!(told());
}

/// Requests and limits of memory, by pod.
fn memory(harness: &Harness) -> Vec<(String, String)> {
    let of = |pod: &Value| {
        let resources = &pod["spec"]["containers"][0]["resources"];
        let text = |which: &str| resources[which]["memory"].as_str().unwrap_or_default().to_owned();
        (text("requests"), text("limits"))
    };
    harness.pods("web").iter().map(of).collect()
}

fn both(request: &str, limit: &str) -> (String, String) {
    (request.to_owned(), limit.to_owned())
}

const LIMITS_TOO: fn() -> Value = || json!({"updateStrategy": {"updateRequestsOnly": false}});

#[tokio::test(start_paused = true)]
async fn a_kill_raises_the_recommendation_and_the_pod_within_a_second() {
    let harness = sized(1, LIMITS_TOO()).await;
    kill(&harness).await;
    seconds(1).await;
    // 200Mi × 1.2, and the limit in the ratio of before: 240 × 200 / 120.
    assert_eq!(recommended(&harness), "240Mi");
    assert_eq!(memory(&harness), [both("240Mi", "400Mi")]);
    let entry = harness.entry("p", "web");
    assert_eq!((&entry["oomKills"][0]["container"], &entry["oomKills"][0]["memory"]), (&json!("web"), &json!("200Mi")));
    let why = entry["recommendations"][0]["explanation"].as_str().unwrap();
    assert!(why.contains("raised to 200Mi × 1.2 = 240Mi, for it was killed for memory at 200Mi"), "{why}");
    // The same kill, seen again when the pod has a higher limit, is no other.
    minutes(10).await;
    assert_eq!((recommended(&harness), harness.changes().len()), ("240Mi".to_owned(), 1));
    assert_eq!(harness.entry("p", "web")["oomKills"], entry["oomKills"]);
}

#[tokio::test(start_paused = true)]
async fn the_floor_survives_a_restart_and_new_pods_and_decays_over_the_window() {
    let policy = json!({"updateStrategy": {"updateRequestsOnly": false}, "reconciliationInterval": "10m"});
    let mut harness = sized(2, policy).await;
    kill(&harness).await;
    minutes(1).await;
    assert_eq!(memory(&harness), vec![both("240Mi", "400Mi"); 2]);
    harness.stop().await;
    for pod in harness.pods("web") {
        harness.api.delete("v1", "Pod", SHOP, pod["metadata"]["name"].as_str().unwrap()).unwrap();
    }
    minutes(1).await;
    assert_eq!(
        memory(&harness),
        vec![both("120Mi", "200Mi"); 2],
        "new pods of the old template, which tell of no kill"
    );
    harness.start(Harness::options());
    minutes(1).await;
    assert_eq!(recommended(&harness), "240Mi");
    assert_eq!(memory(&harness), vec![both("240Mi", "400Mi"); 2], "the size once decided");
    minutes(60).await;
    assert_eq!(recommended(&harness), "220Mi", "200 × 1.1");
    minutes(60).await;
    assert_eq!(recommended(&harness), "120Mi", "the window has passed");
    let entry = harness.entry("p", "web");
    assert_eq!((&entry["oomKills"], &entry["reason"]), (&Value::Null, &json!("RaisedRecently")), "{entry}");
    assert_eq!(memory(&harness), vec![both("240Mi", "400Mi"); 2], "what was raised stays for a day");
}

#[tokio::test(start_paused = true)]
async fn mode_recommend_publishes_the_higher_number_at_once() {
    let harness = sized(1, json!({"mode": "Recommend"})).await;
    kill(&harness).await;
    seconds(1).await;
    assert_eq!((recommended(&harness), harness.changes().len()), ("240Mi".to_owned(), 0));
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_stays_bounds_the_request_and_the_status_says_so() {
    let harness = sized(1, json!({})).await;
    kill(&harness).await;
    seconds(1).await;
    assert_eq!(memory(&harness), [both("200Mi", "200Mi")]);
    minutes(60).await;
    let entry = harness.entry("p", "web");
    assert_eq!(entry["reason"], "LimitReached", "{entry}");
    assert!(entry["message"].as_str().unwrap().contains("set updateRequestsOnly: false"), "{entry}");
}

#[tokio::test(start_paused = true)]
async fn killed_again_with_more_it_gets_still_more_and_never_less_in_between() {
    let harness = sized(1, json!({"updateStrategy": {"updateRequestsOnly": false, "cooldown": "5m"}})).await;
    // 240Mi is too little too, until the second change.
    harness.need("web", 0.0, 300.0);
    minutes(90).await;
    let writes: Vec<_> = harness
        .changes()
        .iter()
        .filter(|write| write.changed)
        .map(|write| {
            write.body["spec"]["containers"][0]["resources"]["requests"]["memory"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        })
        .collect();
    assert_eq!(writes, ["240Mi", "480Mi"], "200 × 1.2, and its limit 400 × 1.2");
    let entry = harness.entry("p", "web");
    assert!(entry["rolledBack"].is_null(), "{entry}");
    assert_eq!(harness.condition("p", "Applying")["reason"], "AutoMode");
}

#[tokio::test(start_paused = true)]
async fn a_kill_in_a_workload_that_no_policy_covers_wakes_nobody() {
    let harness = sized(1, json!({"selector": {"workloadSelector": {"matchLabels": {"app": "web"}}}})).await;
    harness.deployment("other", 1).await;
    let asked = *harness.provider.questions.lock().unwrap();
    let pod = harness.pods("other")[0]["metadata"]["name"].as_str().unwrap().to_owned();
    assert!(harness.cluster.crash(SHOP, &pod, "web", "OOMKilled"));
    minutes(1).await;
    assert_eq!(*harness.provider.questions.lock().unwrap(), asked);
    kill(&harness).await;
    minutes(1).await;
    assert_ne!(*harness.provider.questions.lock().unwrap(), asked, "one that is covered does");
}
