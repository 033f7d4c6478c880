//! The API server is away for minutes, and has forgotten meanwhile what the watches go on from.

use crate::harness::{Harness, minutes, seconds};
use optipod_sim::{Fault, FaultRule};
use serde_json::json;

#[tokio::test(start_paused = true)]
async fn a_watch_that_has_expired_is_listed_anew_without_another_long_wait() {
    let mut harness = Harness::new().await;
    harness.deployment("web", 1).await;
    harness.policy("p", json!({"mode": "Recommend", "reconciliationInterval": "1h"}));
    harness.start(Harness::options());
    minutes(1).await;
    harness.api.faults().cut_watches();
    harness.api.faults().add(FaultRule::new(Fault::DropBefore));
    // The wait before each further attempt has grown to the longest.
    minutes(5).await;
    harness.api.faults().clear();
    let watches = "optimizationpolicies.optipod.io";
    harness.api.faults().add(FaultRule::new(Fault::Expired).verb("watch").on(watches).times(1));
    harness.patch("OptimizationPolicy", "optipod-system", "p", &json!({"spec": {"mode": "Auto"}}));
    for _ in 0..31 {
        if harness.api.journal().iter().any(|entry| entry.fault.starts_with("Expired")) {
            break;
        }
        seconds(1).await;
    }
    assert!(harness.changes().is_empty(), "the change of the policy has not been seen yet");

    seconds(3).await;

    assert_eq!(harness.cpu("web", "web"), ["250m"]);
}
