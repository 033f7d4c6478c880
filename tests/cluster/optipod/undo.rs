//! `optipod restore`, as an administrator runs it, and policies with `onDelete: Restore`.

use anyhow::ensure;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::explain::{optipod, says};
use super::in_place::starved;
use super::look::{ensure_resized, pair};
use super::policy::Policy;
use super::rollout::{known_deployment, recreate_only};
use super::{SOON, shared};
use crate::harness::{Cluster, Result, Workload, wait_for};

async fn notes(web: &Workload) -> Result<Vec<String>> {
    let annotations = web.get().await?.metadata.annotations.unwrap_or_default();
    Ok(annotations.into_keys().filter(|key| key.starts_with("optipod.io/")).collect())
}

/// Applies one container's requests as a team does that keeps its manifests in git, without force.
async fn apply(web: &Workload, manager: &str, requests: &Value) -> kube::Result<()> {
    let containers = json!([{"name": "app", "resources": {"requests": requests}}]);
    let manifest = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": web.name},
        "spec": {"template": {"spec": {"containers": containers}}},
    });
    web.api().patch(&web.name, &PatchParams::apply(manager), &Patch::Apply(manifest)).await.map(drop)
}

pub async fn a_template_is_put_back_with_its_field_owners(cluster: &'static Cluster) -> Result {
    let controller = shared(cluster).await?;
    let namespace = cluster.namespace("undo").await?;
    let web = known_deployment(controller, &namespace).await?;
    let before = web.template().await?;
    let policy = Policy::create(&namespace, "all", recreate_only()).await?;
    controller.wait_status(&policy, &web, "Applied").await?;
    ensure!(web.template().await? != before);
    let refused = apply(&web, "argocd", &json!({"cpu": "100m", "memory": "64Mi"})).await;
    ensure!(refused.is_err_and(|error| error.to_string().contains("\"optipod\"")), "the fields are ours");

    let text = optipod(cluster, &["restore", "deployment/web", "-n", namespace.name()]).await?;

    let head = format!("Deployment {}/web", namespace.name());
    says(&text, &[&head, "the template, container app: ", " -> cpu 100m, memory 64Mi", "annotate deployment web"]);
    assert_eq!(web.template().await?, before);
    assert_eq!(notes(&web).await?, ["optipod.io/hold"]);
    let managers = web.field_managers().await?;
    ensure!(!managers.iter().any(|manager| manager == "optipod"), "{managers:?}");
    apply(&web, "argocd", &json!({"cpu": "100m", "memory": "64Mi"})).await?;

    controller.wait_status(&policy, &web, "Skipped HeldByAnnotation").await?;
    controller.wait_cycles(&policy, 2).await?;
    assert_eq!(web.template().await?, before, "it is left alone");
    for pod in web.wait_ready(SOON).await? {
        ensure_resized(&pod, "app", &pair("100m", "64Mi"))?;
    }
    Ok(())
}

pub async fn resized_pods_are_put_back_and_left_alone(cluster: &'static Cluster) -> Result {
    let controller = shared(cluster).await?;
    let namespace = cluster.namespace("undo-resize").await?;
    let web = namespace.deployment("web").replicas(2).container(starved()).create().await?;
    web.wait_ready(SOON).await?;
    controller.wait_usage(&web, "app", 8).await?;
    let generation = web.generation().await?;
    let policy = Policy::create(&namespace, "all", json!({})).await?;
    controller.wait_status(&policy, &web, "Applied").await?;

    let text = optipod(cluster, &["restore", "deploy/web", "-n", namespace.name()]).await?;

    says(&text, &["pod web-", "container app: ", " -> cpu 100m, memory 64Mi", "leaves it alone"]);
    let back = pair("100m", "64Mi");
    wait_for("the pods to be as they were", SOON, || async {
        web.pods().await?.iter().try_for_each(|pod| ensure_resized(pod, "app", &back))
    })
    .await?;
    controller.wait_status(&policy, &web, "Skipped HeldByAnnotation").await?;
    controller.wait_cycles(&policy, 2).await?;
    web.pods().await?.iter().try_for_each(|pod| ensure_resized(pod, "app", &back))?;
    // An annotation on a Deployment counts as a generation, and rolls nothing.
    ensure!(web.generation().await? <= generation + 1);
    let again = optipod(cluster, &["restore", "deploy/web", "-n", namespace.name()]).await?;
    says(&again, &["Nothing to put back"]);
    Ok(())
}

pub async fn a_deleted_policy_puts_a_template_back_and_goes(cluster: &'static Cluster) -> Result {
    let controller = shared(cluster).await?;
    let namespace = cluster.namespace("undo-delete").await?;
    let web = known_deployment(controller, &namespace).await?;
    let before = web.template().await?;
    let mut spec = recreate_only();
    spec["updateStrategy"]["onDelete"] = "Restore".into();
    let policy = Policy::create(&namespace, "all", spec).await?;
    controller.wait_status(&policy, &web, "Applied").await?;
    ensure!(web.template().await? != before);
    assert_eq!(policy.finalizers().await?, ["optipod.io/restore"]);

    policy.delete().await?;

    policy.wait_gone().await?;
    assert_eq!(web.template().await?, before);
    assert_eq!(notes(&web).await?, Vec::<String>::new());
    let managers = web.field_managers().await?;
    ensure!(!managers.iter().any(|manager| manager == "optipod"), "{managers:?}");
    Ok(())
}

pub async fn a_deleted_policy_puts_resized_pods_back_with_the_namespace_it_lies_in(
    cluster: &'static Cluster,
) -> Result {
    let controller = shared(cluster).await?;
    let namespace = cluster.namespace("undo-delete-resize").await?;
    let web = namespace.deployment("web").replicas(2).container(starved()).create().await?;
    web.wait_ready(SOON).await?;
    controller.wait_usage(&web, "app", 8).await?;
    let policy = Policy::create(&namespace, "all", json!({"updateStrategy": {"onDelete": "Restore"}})).await?;
    controller.wait_status(&policy, &web, "Applied").await?;

    policy.delete().await?;

    policy.wait_gone().await?;
    let back = pair("100m", "64Mi");
    web.pods().await?.iter().try_for_each(|pod| ensure_resized(pod, "app", &back))?;
    // A namespace that goes with its policy and its workloads is not held up.
    let policy = Policy::create(&namespace, "again", json!({"updateStrategy": {"onDelete": "Restore"}})).await?;
    controller.wait_status(&policy, &web, "Applied").await?;
    namespace.delete().await?;
    policy.wait_gone().await
}
