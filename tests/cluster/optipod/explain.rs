//! The commands for people.

use std::process::Command;

use super::in_place::{LONG_KNOWN, Resized, resized};
use super::shared;
use crate::harness::{Cluster, Result, output};

/// What `optipod` prints for an administrator.
pub async fn optipod(cluster: &Cluster, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_optipod"));
    command.args(arguments).env("KUBECONFIG", cluster.kubeconfig_path());
    output(command).await
}

pub fn says(text: &str, all: &[&str]) {
    for part in all {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
}

pub async fn explain_tells_why_a_workload_was_resized(cluster: &'static Cluster) -> Result {
    let Resized { namespace, policy, .. } = resized(cluster).await?;

    let text = optipod(cluster, &["explain", "deployment/web", "-n", namespace.name()]).await?;

    let head = format!("Deployment {}/web, policy {} (mode Auto)", namespace.name(), policy.full_name());
    let story = [
        head.as_str(),
        "container app",
        "memory 150Mi = P90 100Mi × 1.5",
        "container sidecar",
        "Applied, AlreadySized: requests are within 10 % of the recommendation",
        "by Resize, cause Recommend.",
        "Before that, container app requested cpu 100m, memory 64Mi.",
    ];
    says(&text, &story);
    Ok(())
}

pub async fn explain_tells_why_a_workload_was_left_alone(cluster: &'static Cluster) -> Result {
    let Resized { namespace, .. } = resized(cluster).await?;

    let text = optipod(cluster, &["explain", "deploy/held", "-n", namespace.name()]).await?;

    let place = format!("annotation optipod.io/hold on Deployment {}/held; remove it", namespace.name());
    says(&text, &["requests     cpu 100m, memory 64Mi", "memory 150Mi", "Skipped, HeldByAnnotation: ", &place]);
    assert!(!text.contains("Last changed"), "{text}");
    Ok(())
}

pub async fn top_lists_what_containers_use(cluster: &'static Cluster) -> Result {
    let recommender = shared(cluster).await?.recommender_flag();
    let Resized { namespace, .. } = resized(cluster).await?;

    let text = optipod(cluster, &["top", "-n", namespace.name(), &recommender]).await?;

    assert_eq!(text.lines().count(), 4, "a head and three containers:\n{text}");
    says(&text, &["Deployment/web", "Deployment/held", "app", "sidecar", "100Mi", "32Mi"]);
    Ok(())
}

pub async fn recommend_says_what_to_request_and_why(cluster: &'static Cluster) -> Result {
    let recommender = shared(cluster).await?.recommender_flag();

    let known = ["recommend", "deployment/gone", "-n", LONG_KNOWN, "--window", "1h", &recommender];
    let text = optipod(cluster, &known).await?;
    // 120m or 121m: a percentile is exact to a few millionths, and requests are rounded up.
    let cpu = ["container app: cpu 12", "P90 0.1 cores × 1.2 = 0.12 cores"];
    says(&text, &cpu);
    says(&text, &["memory 77Mi = P90 64Mi × 1.2 = 76.8Mi", "160 samples"]);

    let Resized { namespace, .. } = resized(cluster).await?;
    let new = ["recommend", "deployment/web", "-n", namespace.name(), &recommender];
    says(&optipod(cluster, &new).await?, &["container app: no recommendation yet"]);
    Ok(())
}
