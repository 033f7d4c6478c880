//! Mode Auto, where only the template may be changed.

use std::time::Duration;

use anyhow::{Context, ensure};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::api::{DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};

use super::in_place::{content, numbers, starved, target};
use super::look::{Requests, ensure_resized, limits, pair};
use super::policy::Policy;
use super::process::Optipod;
use super::{SOON, shared};
use crate::harness::{Cluster, Namespace, Result, Workload};

/// A policy that may not resize, and may roll.
pub fn recreate_only() -> Value {
    json!({"updateStrategy": {"allowInPlaceResize": false, "allowRecreate": true}})
}

pub async fn known_deployment(optipod: &Optipod, namespace: &Namespace) -> Result<Workload> {
    let web = namespace.deployment("web").replicas(2).container(starved()).container(content()).create().await?;
    web.wait_ready(SOON).await?;
    optipod.wait_usage(&web, "app", 8).await?;
    optipod.wait_usage(&web, "sidecar", 8).await?;
    Ok(web)
}

pub async fn a_template_is_changed_in_one_complete_apply_and_never_again(cluster: &'static Cluster) -> Result {
    let optipod = shared(cluster).await?;
    let namespace = cluster.namespace("rollout").await?;
    let web = known_deployment(optipod, &namespace).await?;
    let (generation, template) = (web.generation().await?, web.template().await?);

    let policy = Policy::create(&namespace, "all", recreate_only()).await?;

    let entry = optipod.wait_status(&policy, &web, "Applied").await?;
    assert_eq!(entry.method.as_deref(), Some("Rollout"));
    let wanted = target(&entry, "app")?;
    assert_eq!(numbers(&wanted)?.1, 150, "{wanted:?}");
    optipod.wait_cycles(&policy, 2).await?;
    let changed = web.get().await?;
    assert_eq!(changed.metadata.generation, Some(generation + 1));
    assert_eq!(web.template().await?, with_requests(template, "app", &wanted)?, "requests of app, and nothing else");
    owns_all_requests_and_no_limits(&changed)?;
    has_our_notes(&changed, &wanted)?;
    for pod in web.wait_ready(SOON).await? {
        ensure_resized(&pod, "app", &wanted)?;
        ensure_resized(&pod, "sidecar", &pair("60m", "48Mi"))?;
        assert_eq!(limits(&pod, "app")?, pair("1", "512Mi"));
    }
    let applications = format!("optipod_applications_total{{method=\"Rollout\",policy=\"{}\"}}", policy.full_name());
    assert_eq!(optipod.metric(&applications).await?, Some(1.0));
    let event = optipod.wait_event(&namespace, "web", "RolloutApplied").await?;
    assert_eq!(event.action.as_deref(), Some("Rollout"));
    Ok(())
}

pub async fn requests_that_somebody_takes_back_are_left_to_them(cluster: &'static Cluster) -> Result {
    let optipod = shared(cluster).await?;
    let namespace = cluster.namespace("taken-back").await?;
    let web = known_deployment(optipod, &namespace).await?;
    let policy = Policy::create(&namespace, "all", recreate_only()).await?;
    optipod.wait_status(&policy, &web, "Applied").await?;

    let requests = json!({"requests": {"cpu": "100m", "memory": "64Mi"}});
    let containers = json!([{"name": "app", "resources": requests}]);
    let patch = Patch::Strategic(json!({"spec": {"template": {"spec": {"containers": containers}}}}));
    let helm = PatchParams { field_manager: Some("helm".to_owned()), ..PatchParams::default() };
    web.api().patch(&web.name, &helm, &patch).await?;

    let entry = optipod.wait_status(&policy, &web, "Skipped RevertedByOther").await?;
    let message = entry.message.unwrap_or_default();
    assert!(message.starts_with("helm has set requests"), "{message}");
    let event = optipod.wait_event(&namespace, "web", "RevertedByOther").await?;
    assert_eq!(event.type_.as_deref(), Some("Warning"));
    let generation = web.generation().await?;
    optipod.wait_cycles(&policy, 2).await?;
    assert_eq!(web.generation().await?, generation, "nobody is fought");
    assert_eq!(web.template_requests("app").await?, requests["requests"]);
    Ok(())
}

/// A template with other requests of one container.
fn with_requests(mut template: Value, container: &str, requests: &Requests) -> Result<Value> {
    let all = template["spec"]["containers"].as_array_mut().context("no containers")?;
    let found = all.iter_mut().find(|c| c["name"] == container).context("no such container")?;
    found["resources"]["requests"] = json!(requests);
    Ok(template)
}

/// One apply by us stands in the object's managed fields: the requests of every
/// container, because an apply drops what it does not list, and no limits.
fn owns_all_requests_and_no_limits(object: &DynamicObject) -> Result {
    let all = object.metadata.managed_fields.clone().unwrap_or_default();
    let is_ours = |entry: &&ManagedFieldsEntry| entry.manager.as_deref() == Some("optipod");
    let ours: Vec<_> = all.iter().filter(is_ours).collect();
    ensure!(ours.len() == 1, "{} entries of ours", ours.len());
    ensure!(ours[0].operation.as_deref() == Some("Apply"), "{:?}", ours[0].operation);
    let fields = ours[0].fields_v1.as_ref().map(|fields| fields.0.clone()).unwrap_or_default();
    let containers = &fields["f:spec"]["f:template"]["f:spec"]["f:containers"];
    for name in ["app", "sidecar"] {
        let resources = &containers[format!("k:{{\"name\":\"{name}\"}}")]["f:resources"];
        let requests = &resources["f:requests"];
        ensure!(requests["f:cpu"].is_object() && requests["f:memory"].is_object(), "{name}: {fields}");
        ensure!(resources["f:limits"].is_null(), "{name}: {fields}");
    }
    Ok(())
}

/// Our notes stand on the workload: on the template they would be one more change.
fn has_our_notes(object: &DynamicObject, wanted: &Requests) -> Result {
    let annotations = object.metadata.annotations.clone().unwrap_or_default();
    let note = |key: &str| annotations.get(key).cloned().with_context(|| format!("no annotation {key}"));
    let json = |key: &str| Ok::<Value, anyhow::Error>(serde_json::from_str(&note(key)?)?);
    assert_eq!(json("optipod.io/requests")?, json!({"app": wanted}), "what was decided");
    assert_eq!(json("optipod.io/previous-requests")?["app"], json!(pair("100m", "64Mi")));
    assert_eq!(note("optipod.io/cause")?, "Recommend");
    let at: jiff::Timestamp = note("optipod.io/changed-at")?.parse()?;
    let age = Duration::try_from(jiff::Timestamp::now().duration_since(at))?;
    ensure!(age < 3 * SOON, "changed {age:?} ago");
    Ok(())
}
