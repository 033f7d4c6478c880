//! `optipod explain KIND/NAME`: what is recommended, why, and why it was or was not applied, from the policies' status.

use super::WorkloadArg;
use crate::policy::OptimizationPolicy;
use crate::policy::types::{ContainerRecommendation, ContainerRequests, WorkloadStatus};
use anyhow::Context as _;
use clap::Args;
use kube::api::{Api, ListParams};
use std::fmt::Write as _;
use std::time::Duration;

/// Arguments of `optipod explain`.
#[derive(Args, Debug)]
pub struct ExplainArgs {
    /// The workload, such as deployment/checkout
    workload: WorkloadArg,
    /// The workload's namespace
    #[arg(short, long)]
    namespace: Option<String>,
}

/// Reads the policies and prints what they say of the workload.
pub async fn explain(args: &ExplainArgs) -> anyhow::Result<()> {
    let namespace = match &args.namespace {
        Some(namespace) => namespace.clone(),
        None => super::context_namespace().await,
    };
    let client = kube::Client::try_default().await.context("no cluster: check KUBECONFIG and its current context")?;
    let (api, all) = (Api::<OptimizationPolicy>::all(client), ListParams::default());
    let policies = tokio::time::timeout(Duration::from_secs(30), api.list(&all))
        .await
        .context("the API server did not answer within 30 s")?
        .context(
            "listing OptimizationPolicies; is the CRD installed (`optipod crd | kubectl apply --server-side -f -`)?",
        )?;
    print!("{}", render(&policies.items, &namespace, &args.workload));
    Ok(())
}

/// The whole answer as text.
pub(crate) fn render(policies: &[OptimizationPolicy], namespace: &str, workload: &WorkloadArg) -> String {
    let kind = workload.kind.as_str();
    let mut text = String::new();
    for policy in policies {
        let Some(status) = &policy.status else { continue };
        let is_it = |w: &&WorkloadStatus| w.kind == kind && w.namespace == namespace && w.name == workload.name;
        if let Some(entry) = status.workloads.iter().find(is_it) {
            entry_text(&mut text, policy, entry);
        }
    }
    if text.is_empty() {
        let omitted: i32 = policies.iter().filter_map(|p| p.status.as_ref()?.summary).map(|s| s.omitted).sum();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "No policy's status speaks of {kind} {namespace}/{}.", workload.name);
        let _ = writeln!(text, "{} policies were read.", policies.len());
        if omitted > 0 {
            let _ = writeln!(
                text,
                "{omitted} workloads are left out of the policies' status for its size; this may be one of them: ask `optipod recommend`."
            );
        } else {
            let _ = writeln!(
                text,
                "Check that a policy selects it (namespace, labels, kinds) and that the controller runs."
            );
        }
    }
    text
}

fn entry_text(text: &mut String, policy: &OptimizationPolicy, entry: &WorkloadStatus) {
    let policy_name = format!(
        "{}/{}",
        policy.metadata.namespace.as_deref().unwrap_or_default(),
        policy.metadata.name.as_deref().unwrap_or_default()
    );
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "{} {}/{}, policy {policy_name} (mode {:?})\n",
        entry.kind, entry.namespace, entry.name, policy.spec.mode
    );
    for recommendation in &entry.recommendations {
        container_text(text, recommendation);
    }
    let _ = writeln!(text, "  {}", outcome(entry));
    if let Some(at) = &entry.last_applied {
        let _ = writeln!(
            text,
            "  Last changed {}{}.",
            at.0,
            entry.method.as_ref().map(|m| format!(" by {m}")).unwrap_or_default()
                + &entry.cause.as_ref().map(|c| format!(", cause {c}")).unwrap_or_default()
        );
    }
    if let Some(past) = &entry.rolled_back {
        let suffered = past.container.as_ref().map(|c| format!(" of container {c}")).unwrap_or_default();
        let _ = writeln!(text, "  Rolled back {} for {}{suffered}; the size that failed:", past.at.0, past.reason);
        for size in &past.size {
            let _ = writeln!(text, "    container {}: {}", size.container, requests(size));
        }
    }
    for kill in &entry.oom_kills {
        let _ =
            writeln!(text, "  Container {} was killed for memory at {}, {}.", kill.container, kill.memory, kill.at.0);
    }
    for before in &entry.previous {
        let _ = writeln!(text, "  Before that, container {} requested {}.", before.container, requests(before));
    }
}

fn container_text(text: &mut String, recommendation: &ContainerRecommendation) {
    let pair = |cpu: &Option<String>, memory: &Option<String>| {
        format!("cpu {}, memory {}", cpu.as_deref().unwrap_or("none"), memory.as_deref().unwrap_or("none"))
    };
    let now = recommendation.current.as_ref().map_or("nothing known".to_owned(), |c| pair(&c.cpu, &c.memory));
    let wanted = if recommendation.cpu.is_none() && recommendation.memory.is_none() {
        "none yet".to_owned()
    } else {
        pair(&recommendation.cpu, &recommendation.memory)
    };
    let _ = writeln!(text, "  container {}", recommendation.container);
    let _ = writeln!(text, "    requests     {now}");
    let _ = writeln!(text, "    recommended  {wanted}");
    if let Some(explanation) = &recommendation.explanation {
        let _ = writeln!(text, "    because      {explanation}");
    }
    text.push('\n');
}

fn outcome(entry: &WorkloadStatus) -> String {
    let message = entry.message.as_deref().unwrap_or_default();
    match (&*entry.status, &entry.reason) {
        (status, Some(reason)) => format!("{status}, {reason}: {message}"),
        (status, None) if message.is_empty() => format!("{status}."),
        (status, None) => format!("{status}: {message}"),
    }
}

fn requests(before: &ContainerRequests) -> String {
    format!("cpu {}, memory {}", before.cpu.as_deref().unwrap_or("none"), before.memory.as_deref().unwrap_or("none"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policies(workloads: &serde_json::Value, omitted: i32) -> Vec<OptimizationPolicy> {
        let policy = serde_json::json!({
            "apiVersion": "optipod.io/v1alpha1", "kind": "OptimizationPolicy",
            "metadata": {"namespace": "optipod-system", "name": "production"},
            "spec": {
                "mode": "Auto", "selector": {"namespaces": {"allow": ["shop"]}},
                "resourceBounds": {"cpu": {"min": "10m", "max": "4"}, "memory": {"min": "32Mi", "max": "8Gi"}}
            },
            "status": {"summary": {"workloads": 1, "omitted": omitted}, "workloads": workloads}
        });
        vec![serde_json::from_value(policy).unwrap()]
    }

    fn arg() -> WorkloadArg {
        "deployment/checkout".parse().unwrap()
    }

    #[test]
    fn a_held_workload_is_explained_with_reason_and_numbers() {
        let workloads = serde_json::json!([{
            "kind": "Deployment", "namespace": "shop", "name": "checkout", "status": "Skipped", "reason": "Cooldown",
            "message": "changed recently", "lastApplied": "2026-11-24T10:00:00Z", "method": "Resize",
            "recommendations": [{"container": "app", "cpu": "240m", "memory": "504Mi",
                "current": {"cpu": "1", "memory": "1Gi"}, "explanation": "CPU 240m = P90 0.2 cores × 1.2"}],
            "previous": [{"container": "app", "cpu": "2"}]
        }]);
        assert_eq!(
            render(&policies(&workloads, 0), "shop", &arg()),
            "Deployment shop/checkout, policy optipod-system/production (mode Auto)\n\n\
             \x20 container app\n\
             \x20   requests     cpu 1, memory 1Gi\n\
             \x20   recommended  cpu 240m, memory 504Mi\n\
             \x20   because      CPU 240m = P90 0.2 cores × 1.2\n\n\
             \x20 Skipped, Cooldown: changed recently\n\
             \x20 Last changed 2026-11-24T10:00:00Z by Resize.\n\
             \x20 Before that, container app requested cpu 2, memory none.\n"
        );
    }

    #[test]
    fn a_rollback_is_explained_with_the_size_that_failed() {
        let workloads = serde_json::json!([{
            "kind": "Deployment", "namespace": "shop", "name": "checkout", "status": "Skipped", "reason": "RolledBack",
            "message": "container app of pod checkout-1 was killed for memory", "lastApplied": "2026-11-24T10:00:00Z",
            "method": "Resize", "cause": "Rollback",
            "rolledBack": {"at": "2026-11-24T10:00:00Z", "reason": "OOMKilled", "container": "app",
                "size": [{"container": "app", "memory": "256Mi"}]},
        }]);
        assert_eq!(
            render(&policies(&workloads, 0), "shop", &arg()),
            "Deployment shop/checkout, policy optipod-system/production (mode Auto)\n\n\
             \x20 Skipped, RolledBack: container app of pod checkout-1 was killed for memory\n\
             \x20 Last changed 2026-11-24T10:00:00Z by Resize, cause Rollback.\n\
             \x20 Rolled back 2026-11-24T10:00:00Z for OOMKilled of container app; the size that failed:\n\
             \x20   container app: cpu none, memory 256Mi\n"
        );
    }

    #[test]
    fn every_reason_is_told_by_name_and_in_words() {
        for reason in crate::decide::testing::every_reason() {
            let (code, message) = (reason.code(), reason.to_string());
            let workloads = serde_json::json!([{
                "kind": "Deployment", "namespace": "shop", "name": "checkout", "status": "Skipped", "reason": code, "message": message,
            }]);
            let text = render(&policies(&workloads, 0), "shop", &arg());
            assert!(text.contains(&format!("  Skipped, {code}: {message}\n")), "{text}");
        }
    }

    #[test]
    fn a_kill_for_memory_is_told_with_what_was_hit() {
        let workloads = serde_json::json!([{
            "kind": "Deployment", "namespace": "shop", "name": "checkout", "status": "Published",
            "oomKills": [{"container": "app", "at": "2026-11-24T10:00:00Z", "memory": "256Mi"}],
        }]);
        let text = render(&policies(&workloads, 0), "shop", &arg());
        assert!(
            text.ends_with("  Published.\n  Container app was killed for memory at 256Mi, 2026-11-24T10:00:00Z.\n"),
            "{text}"
        );
    }

    #[test]
    fn an_unknown_workload_is_said_to_be_unknown_and_where_to_look() {
        let text = render(&policies(&serde_json::json!([]), 0), "shop", &arg());
        assert!(text.contains("No policy's status speaks of Deployment shop/checkout"), "{text}");
        assert!(text.contains("Check that a policy selects it"), "{text}");
        assert!(render(&policies(&serde_json::json!([]), 3), "shop", &arg()).contains("3 workloads are left out"));
    }
}
