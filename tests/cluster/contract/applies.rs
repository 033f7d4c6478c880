//! Server-side apply: who owns which field, and what a conflict says.

#![allow(clippy::needless_pass_by_value, reason = "json! makes values")]

use anyhow::{Context, bail, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::core::Status;
use kube::{Error, ResourceExt};
use serde_json::{Value, json};

use super::SOON;
use crate::harness::{Namespace, Result, Server, wait_for};

/// A Deployment without pods, made as kubectl does it: requests and limits of two containers.
async fn web(namespace: &Namespace) -> Result<Api<Deployment>> {
    let deployments: Api<Deployment> = namespace.api();
    let object = json!({
        "metadata": {"name": "web"},
        "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "web"}}, "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [
                {"name": "app", "image": "test.invalid/app:1",
                 "resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "2Gi"}}},
                {"name": "proxy", "image": "test.invalid/proxy:1", "resources": {"requests": {"cpu": "100m"}}},
            ]},
        }},
    });
    let params = PostParams { field_manager: Some("creator".to_owned()), ..PostParams::default() };
    deployments.create(&params, &serde_json::from_value(object)?).await?;
    Ok(deployments)
}

/// What OptiPod sends: names and requests.
fn requests(app: Value, proxy: Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
    "spec": {"template": {"spec": {"containers": [
        {"name": "app", "resources": {"requests": app}}, {"name": "proxy", "resources": {"requests": proxy}},
    ]}}}})
}

fn empty() -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}})
}

async fn apply(api: &Api<Deployment>, manager: &str, force: bool, body: Value) -> kube::Result<Deployment> {
    let params = PatchParams::apply(manager);
    let params = if force { params.force() } else { params };
    api.patch("web", &params, &Patch::Apply(body)).await
}

fn refused(answer: kube::Result<Deployment>) -> Result<Box<Status>> {
    match answer {
        Err(Error::Api(status)) => Ok(status),
        Err(other) => Err(other.into()),
        Ok(_) => bail!("the API server accepted it"),
    }
}

fn resources(object: &Deployment, index: usize) -> Result<Value> {
    let object = serde_json::to_value(object)?;
    Ok(object["spec"]["template"]["spec"]["containers"][index]["resources"].clone())
}

/// Who owns a field of the container `app`, as `manager operation`, in order.
fn owners(object: &Deployment, which: &str, resource: &str) -> Vec<String> {
    let path = ["f:spec", "f:template", "f:spec", "f:containers", "k:{\"name\":\"app\"}", "f:resources"];
    let owns = |fields: &Value| {
        let container = path.iter().fold(fields, |at, step| &at[*step]);
        container[format!("f:{which}")][format!("f:{resource}")].is_object()
    };
    let entries = object.metadata.managed_fields.iter().flatten();
    let mut found: Vec<String> = entries
        .filter(|entry| entry.fields_v1.as_ref().is_some_and(|fields| owns(&fields.0)))
        .map(|entry| {
            let word = |text: &Option<String>| text.clone().unwrap_or_default();
            format!("{} {}", word(&entry.manager), word(&entry.operation))
        })
        .collect();
    found.sort();
    found
}

pub async fn a_field_belongs_to_who_wrote_it(server: &Server) -> Result {
    let namespace = server.namespace("owners").await?;
    let deployments = web(&namespace).await?;

    let other_cpu = json!({"spec": {"template": {"spec": {"containers": [{"name": "app", "resources": {"requests": {"cpu": "2"}}}]}}}});
    let helm = PatchParams { field_manager: Some("helm".to_owned()), ..PatchParams::default() };
    let object = deployments.patch("web", &helm, &Patch::Strategic(other_cpu)).await?;

    assert_eq!(owners(&object, "requests", "cpu"), ["helm Update"], "a change takes the field over");
    assert_eq!(owners(&object, "requests", "memory"), ["creator Update"]);
    assert_eq!(owners(&object, "limits", "memory"), ["creator Update"]);
    Ok(())
}

pub async fn an_apply_of_another_managers_field_conflicts_and_names_it(server: &Server) -> Result {
    let namespace = server.namespace("conflict").await?;
    let deployments = web(&namespace).await?;
    let before = deployments.get("web").await?;

    let answer = apply(&deployments, "optipod", false, requests(json!({"cpu": "500m"}), json!({"cpu": "100m"}))).await;

    let status = refused(answer)?;
    assert_eq!((status.code, status.reason.as_str()), (409, "Conflict"));
    let field = ".spec.template.spec.containers[name=\"app\"].resources.requests.cpu";
    let owner = "\"creator\" using apps/v1";
    let message = format!("Apply failed with 1 conflict: conflict with {owner}: {field}");
    assert_eq!(status.message, message);
    let causes = status.details.context("no details")?.causes;
    assert_eq!(causes.len(), 1, "what both want alike is no conflict: {causes:?}");
    assert_eq!((causes[0].reason.as_str(), causes[0].field.as_str()), ("FieldManagerConflict", field));
    assert_eq!(causes[0].message, format!("conflict with {owner}"));
    let after = deployments.get("web").await?;
    assert_eq!(owners(&after, "requests", "cpu"), ["creator Update"], "nothing was written");
    assert_eq!(after.spec, before.spec);
    Ok(())
}

pub async fn conflicts_are_told_by_manager(server: &Server) -> Result {
    let namespace = server.namespace("conflicts").await?;
    let deployments = web(&namespace).await?;

    let answer = apply(
        &deployments,
        "optipod",
        false,
        requests(json!({"cpu": "500m", "memory": "512Mi"}), json!({"cpu": "50m"})),
    );

    let status = refused(answer.await)?;
    let message = &status.message;
    let place = ".spec.template.spec.containers";
    let lines = [
        "Apply failed with 3 conflicts: conflicts with \"creator\" using apps/v1:".to_owned(),
        format!("- {place}[name=\"app\"].resources.requests.cpu"),
        format!("- {place}[name=\"app\"].resources.requests.memory"),
        format!("- {place}[name=\"proxy\"].resources.requests.cpu"),
    ];
    assert_eq!(message.lines().map(str::to_owned).collect::<Vec<_>>(), lines);
    Ok(())
}

pub async fn by_force_an_apply_takes_the_field_and_leaves_the_rest(server: &Server) -> Result {
    let namespace = server.namespace("force").await?;
    let deployments = web(&namespace).await?;

    let object = apply(&deployments, "optipod", true, requests(json!({"cpu": "500m"}), json!({"cpu": "100m"}))).await?;

    assert_eq!(
        resources(&object, 0)?,
        json!({"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"memory": "2Gi"}})
    );
    assert_eq!(owners(&object, "requests", "cpu"), ["optipod Apply"], "the owner of before owns it no longer");
    assert_eq!(owners(&object, "requests", "memory"), ["creator Update"]);
    assert_eq!(object.metadata.generation, Some(2));
    Ok(())
}

pub async fn an_apply_of_the_same_keeps_the_version(server: &Server) -> Result {
    let namespace = server.namespace("same").await?;
    let deployments = web(&namespace).await?;
    let ours = requests(json!({"cpu": "500m"}), json!({"cpu": "100m"}));
    apply(&deployments, "optipod", true, ours.clone()).await?;

    // The Deployment's own controller writes too, until it is through with the change.
    let settled = wait_for("the rollout of nothing to be complete", SOON, || async {
        let object = deployments.get("web").await?;
        let status = object.status.clone().unwrap_or_default();
        let mut conditions = status.conditions.unwrap_or_default().into_iter();
        let complete = conditions.any(|condition| condition.reason.as_deref() == Some("NewReplicaSetAvailable"));
        ensure!(complete && status.observed_generation == object.metadata.generation, "{object:?}");
        Ok(object)
    })
    .await?;
    let version = settled.resource_version();

    let again = apply(&deployments, "optipod", true, ours).await?;
    assert_eq!(again.resource_version(), version);
    let again = apply(&deployments, "optipod", true, requests(json!({"cpu": "0.5"}), json!({"cpu": "0.1"}))).await?;
    // The time of the apply may be written anew; that is no change of the spec.
    assert_eq!(again.metadata.generation, settled.metadata.generation, "another spelling is the same request");
    assert_eq!(resources(&again, 0)?["requests"]["cpu"], "500m");
    Ok(())
}

pub async fn a_conflict_with_an_applier_names_it_alone(server: &Server) -> Result {
    let namespace = server.namespace("appliers").await?;
    let deployments = web(&namespace).await?;
    apply(&deployments, "optipod", true, requests(json!({"cpu": "500m"}), json!({}))).await?;

    let status = refused(apply(&deployments, "flux", false, requests(json!({"cpu": "600m"}), json!({}))).await)?;

    let field = ".spec.template.spec.containers[name=\"app\"].resources.requests.cpu";
    assert_eq!(status.message, format!("Apply failed with 1 conflict: conflict with \"optipod\": {field}"));
    Ok(())
}

pub async fn a_field_that_an_apply_leaves_out_goes_unless_somebody_shares_it(server: &Server) -> Result {
    let namespace = server.namespace("left-out").await?;
    let deployments = web(&namespace).await?;
    apply(&deployments, "optipod", true, requests(json!({"cpu": "500m", "memory": "1Gi"}), json!({"cpu": "100m"})))
        .await?;
    let shared = apply(&deployments, "flux", false, requests(json!({"cpu": "500m"}), json!({}))).await?;
    assert_eq!(owners(&shared, "requests", "cpu"), ["flux Apply", "optipod Apply"], "both want the same");
    assert_eq!(owners(&shared, "requests", "memory"), ["creator Update", "optipod Apply"]);

    let mut one = requests(json!({}), json!({}));
    one["spec"]["template"]["spec"]["containers"].as_array_mut().context("no list")?.pop();
    let object = apply(&deployments, "optipod", true, one).await?;

    assert_eq!(resources(&object, 0)?["requests"], json!({"cpu": "500m", "memory": "1Gi"}), "others want them still");
    assert_eq!(owners(&object, "requests", "cpu"), ["flux Apply"]);
    assert_eq!(resources(&object, 1)?["requests"], json!({"cpu": "100m"}));
    let object = apply(&deployments, "flux", true, empty()).await?;
    assert_eq!(resources(&object, 0)?["requests"], json!({"memory": "1Gi"}), "nobody wants the cpu any more");
    Ok(())
}

pub async fn an_empty_apply_removes_what_was_taken_by_force(server: &Server) -> Result {
    let namespace = server.namespace("emptied").await?;
    let deployments = web(&namespace).await?;
    apply(&deployments, "optipod", true, requests(json!({"cpu": "500m", "memory": "512Mi"}), json!({"cpu": "50m"})))
        .await?;

    let object = apply(&deployments, "optipod", true, empty()).await?;

    assert_eq!(resources(&object, 0)?, json!({"limits": {"memory": "2Gi"}}));
    assert_eq!(resources(&object, 1)?, json!({}));
    let managers = object.metadata.managed_fields.iter().flatten();
    let managers: Vec<_> = managers.filter_map(|entry| entry.manager.as_deref()).collect();
    assert!(!managers.contains(&"optipod"), "{managers:?}");
    Ok(())
}

pub async fn requests_put_back_by_another_manager_outlive_the_empty_apply(server: &Server) -> Result {
    let namespace = server.namespace("undo").await?;
    let deployments = web(&namespace).await?;
    let applied = requests(json!({"cpu": "500m", "memory": "512Mi"}), json!({"cpu": "50m", "memory": "32Mi"}));
    apply(&deployments, "optipod", true, applied).await?;

    let back = json!({"spec": {"template": {"spec": {"containers": [
        {"name": "app", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}},
        {"name": "proxy", "resources": {"requests": {"cpu": "100m", "memory": null}}},
    ]}}}});
    let restore = PatchParams { field_manager: Some("optipod-restore".to_owned()), ..PatchParams::default() };
    deployments.patch("web", &restore, &Patch::Strategic(back)).await?;
    let object = apply(&deployments, "optipod", true, empty()).await?;

    assert_eq!(resources(&object, 0)?["requests"], json!({"cpu": "1", "memory": "1Gi"}));
    assert_eq!(resources(&object, 1)?["requests"], json!({"cpu": "100m"}));
    assert_eq!(owners(&object, "requests", "cpu"), ["optipod-restore Update"]);
    Ok(())
}

pub async fn an_apply_honours_version_and_uid_even_by_force(server: &Server) -> Result {
    let namespace = server.namespace("stale").await?;
    let deployments = web(&namespace).await?;
    let first = deployments.get("web").await?;
    let with = |field: &str, value: String| {
        let mut body = requests(json!({"cpu": "500m"}), json!({"cpu": "50m"}));
        body["metadata"][field] = value.into();
        body
    };
    apply(&deployments, "optipod", true, with("uid", first.uid().context("no uid")?)).await?;

    let version = first.resource_version().context("no version")?;
    let status = refused(apply(&deployments, "optipod", true, with("resourceVersion", version)).await)?;
    assert_eq!((status.code, status.reason.as_str()), (409, "Conflict"));
    assert!(
        status.message.contains("the object has been modified; please apply your changes to the latest version"),
        "{}",
        status.message
    );

    deployments.delete("web", &DeleteParams::background()).await?;
    let status = refused(apply(&deployments, "optipod", true, with("uid", first.uid().context("no uid")?)).await)?;
    assert_eq!((status.code, status.reason.as_str()), (409, "Conflict"));
    assert!(status.message.contains("uid mismatch: the provided object specified uid"), "{}", status.message);
    Ok(())
}

pub async fn an_apply_that_makes_no_valid_object_is_refused(server: &Server) -> Result {
    let namespace = server.namespace("invalid").await?;
    let deployments = web(&namespace).await?;
    let mut ghost = requests(json!({"cpu": "500m"}), json!({"cpu": "50m"}));
    ghost["spec"]["template"]["spec"]["containers"][0]["name"] = "ghost".into();
    let above = requests(json!({"memory": "3Gi"}), json!({}));

    for (body, message) in [
        (ghost, ".image: Required value"),
        (
            above,
            "spec.template.spec.containers[0].resources.requests: Invalid value: \"3Gi\": must be less than or equal to memory limit of 2Gi",
        ),
    ] {
        let status = refused(apply(&deployments, "optipod", true, body).await)?;
        assert_eq!((status.code, status.reason.as_str()), (422, "Invalid"));
        ensure!(status.message.contains(message), "{}", status.message);
    }
    let unnamed = PatchParams { force: true, ..PatchParams::default() };
    let status = refused(deployments.patch("web", &unnamed, &Patch::Apply(empty())).await)?;
    assert!(status.message.contains("fieldManager: Required value: is required for apply patch"), "{}", status.message);
    Ok(())
}
