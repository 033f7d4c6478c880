//! What a write may change, and upon which state of the object.

use anyhow::{Context, bail};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions};
use kube::{Error, ResourceExt};
use serde_json::{Value, json};

use super::{gadgets, pod, refusal};
use crate::harness::{Result, Server};

async fn gadget(api: &Api<DynamicObject>) -> Result<DynamicObject> {
    let object = json!({"apiVersion": "contract.test/v1", "kind": "Gadget", "metadata": {"name": "w"},
        "spec": {"size": 1}, "status": {"seen": 7}});
    Ok(api.create(&PostParams::default(), &serde_json::from_value(object)?).await?)
}

fn merge(body: Value) -> Patch<Value> {
    Patch::Merge(body)
}

fn message<T: std::fmt::Debug>(answer: kube::Result<T>) -> Result<(u16, String)> {
    match answer {
        Err(Error::Api(status)) => Ok((status.code, status.message.clone())),
        other => bail!("{other:?}"),
    }
}

pub async fn the_status_is_written_through_its_subresource_only(server: &Server) -> Result {
    let namespace = server.namespace("status").await?;
    let api = gadgets(server, &namespace).await?;
    let params = PatchParams::default();

    let created = gadget(&api).await?;
    assert_eq!(created.data["status"], Value::Null, "a new object has no status");

    let both = json!({"spec": {"size": 2}, "status": {"seen": 1}});
    let main = api.patch("w", &params, &merge(both.clone())).await?;
    assert_eq!((&main.data["spec"], &main.data["status"]), (&json!({"size": 2}), &Value::Null));
    let status = api.patch_status("w", &params, &merge(json!({"spec": {"size": 3}, "status": {"seen": 1}}))).await?;
    assert_eq!((&status.data["spec"], &status.data["status"]), (&json!({"size": 2}), &json!({"seen": 1})));

    let mut whole = status.clone();
    whole.data = json!({"spec": {"size": 4}, "status": {"seen": 9}});
    let replaced = api.replace("w", &PostParams::default(), &whole).await?;
    assert_eq!((&replaced.data["spec"], &replaced.data["status"]), (&json!({"size": 4}), &json!({"seen": 1})));
    Ok(())
}

pub async fn the_generation_follows_the_spec_and_a_write_of_the_same_is_none(server: &Server) -> Result {
    let namespace = server.namespace("generation").await?;
    let api = gadgets(server, &namespace).await?;
    let params = PatchParams::default();
    let created = gadget(&api).await?;
    assert_eq!(created.metadata.generation, Some(1));

    let labelled = api.patch("w", &params, &merge(json!({"metadata": {"labels": {"a": "b"}}}))).await?;
    assert_eq!(labelled.metadata.generation, Some(1));
    let changed = api.patch("w", &params, &merge(json!({"spec": {"size": 2}}))).await?;
    assert_eq!(changed.metadata.generation, Some(2));
    let status = api.patch_status("w", &params, &merge(json!({"status": {"seen": 1}}))).await?;
    assert_eq!(status.metadata.generation, Some(2));
    assert_ne!(status.resource_version(), changed.resource_version());
    let same = api.patch_status("w", &params, &merge(json!({"status": {"seen": 1}}))).await?;
    assert_eq!(same.resource_version(), status.resource_version());
    Ok(())
}

pub async fn the_status_of_a_pod_is_its_own_too(server: &Server) -> Result {
    let namespace = server.namespace("pod-status").await?;
    let pods = pod(&namespace, json!({"requests": {"cpu": "100m"}})).await?;
    let params = PatchParams::default();

    let main = pods.patch("app", &params, &Patch::Strategic(json!({"status": {"reason": "Mine"}}))).await?;
    assert_eq!(main.status.context("no status")?.reason, None);
    let requests = json!({"spec": {"containers": [{"name": "app", "resources": {"requests": {"cpu": "50m"}}}]}});
    let mut both = requests.clone();
    both["status"] = json!({"reason": "Mine"});
    let status = pods.patch_status("app", &params, &Patch::Strategic(both)).await?;

    assert_eq!(status.status.context("no status")?.reason.as_deref(), Some("Mine"));
    let spec = serde_json::to_value(status.spec)?;
    assert_eq!(spec["containers"][0]["resources"]["requests"]["cpu"], "100m");
    let (code, why) = message(pods.patch("app", &params, &Patch::Strategic(requests)).await)?;
    assert_eq!(code, 422, "and requests have theirs, resize");
    assert!(why.contains("spec: Forbidden: pod updates may not change fields other than"), "{why}");
    Ok(())
}

pub async fn a_write_upon_an_older_version_conflicts(server: &Server) -> Result {
    let namespace = server.namespace("version").await?;
    let maps: Api<ConfigMap> = namespace.api();
    let map = json!({"metadata": {"name": "m"}, "data": {"a": "1"}});
    let first = maps.create(&PostParams::default(), &serde_json::from_value(map)?).await?;
    let version = first.resource_version().context("no version")?;
    let upon = |version: &str| merge(json!({"metadata": {"resourceVersion": version}, "data": {"a": "2"}}));
    maps.patch("m", &PatchParams::default(), &upon(&version)).await?;

    for refused in [
        maps.patch("m", &PatchParams::default(), &upon(&version)).await,
        maps.replace("m", &PostParams::default(), &first).await,
    ] {
        let (code, why) = message(refused)?;
        assert_eq!(code, 409);
        assert_eq!(
            why,
            "Operation cannot be fulfilled on configmaps \"m\": the object has been modified; \
             please apply your changes to the latest version and try again"
        );
    }
    Ok(())
}

pub async fn a_custom_resource_is_replaced_upon_a_version_only(server: &Server) -> Result {
    let namespace = server.namespace("unversioned").await?;
    let api = gadgets(server, &namespace).await?;
    let mut object = gadget(&api).await?;

    object.metadata.resource_version = None;
    let (code, why) = message(api.replace("w", &PostParams::default(), &object).await)?;

    assert_eq!(code, 422);
    assert!(why.contains("metadata.resourceVersion: Invalid value: 0: must be specified for an update"), "{why}");
    let strategic = api.patch("w", &PatchParams::default(), &Patch::Strategic(json!({"spec": {"size": 2}}))).await;
    assert_eq!(refusal(strategic)?, (415, "UnsupportedMediaType".to_owned()));
    Ok(())
}

pub async fn a_write_to_a_successor_of_the_same_name_is_refused(server: &Server) -> Result {
    let namespace = server.namespace("uid").await?;
    let maps: Api<ConfigMap> = namespace.api();
    let map = json!({"metadata": {"name": "m"}});
    let first = maps.create(&PostParams::default(), &serde_json::from_value(map.clone())?).await?;
    let uid = first.uid().context("no uid")?;
    maps.delete("m", &DeleteParams::default()).await?;
    let second = maps.create(&PostParams::default(), &serde_json::from_value(map)?).await?;
    let successor = second.uid().context("no uid")?;

    let patch = merge(json!({"metadata": {"uid": uid}, "data": {"a": "2"}}));
    let (code, why) = message(maps.patch("m", &PatchParams::default(), &patch).await)?;
    assert_eq!(code, 422);
    assert!(why.contains(&format!("metadata.uid: Invalid value: \"{uid}\": field is immutable")), "{why}");
    let mut whole = first.clone();
    whole.metadata.resource_version = None;
    let (code, why) = message(maps.replace("m", &PostParams::default(), &whole).await)?;
    assert_eq!(code, 409);
    let precondition = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {successor}");
    assert!(why.contains(&precondition), "{why}");
    let precondition = Preconditions { uid: Some(uid.clone()), resource_version: None };
    let deleted = maps.delete("m", &DeleteParams::default().preconditions(precondition)).await;
    let Err(Error::Api(status)) = deleted else { bail!("the successor was deleted") };
    assert_eq!((status.code, status.reason.as_str()), (409, "Conflict"));
    let own = merge(json!({"metadata": {"uid": successor}, "data": {"a": "2"}}));
    maps.patch("m", &PatchParams::default(), &own).await?;
    Ok(())
}

pub async fn a_dry_run_answers_and_writes_nothing(server: &Server) -> Result {
    let namespace = server.namespace("dry").await?;
    let maps: Api<ConfigMap> = namespace.api();
    let map = json!({"metadata": {"name": "m"}, "data": {"a": "1"}});
    let first = maps.create(&PostParams::default(), &serde_json::from_value(map)?).await?;

    let dry = PatchParams::default().dry_run();
    let answer = maps.patch("m", &dry, &merge(json!({"data": {"a": "2"}}))).await?;

    assert_eq!(answer.data.context("no data")?["a"], "2");
    let stored = maps.get("m").await?;
    assert_eq!(stored.data.context("no data")?["a"], "1");
    assert_eq!(first.metadata.resource_version, stored.metadata.resource_version);
    Ok(())
}

pub async fn an_object_stays_until_its_last_finalizer_goes(server: &Server) -> Result {
    let namespace = server.namespace("finalizer").await?;
    let maps: Api<ConfigMap> = namespace.api();
    let map = json!({"metadata": {"name": "m", "finalizers": ["contract.test/keep"]}});
    maps.create(&PostParams::default(), &serde_json::from_value(map)?).await?;

    maps.delete("m", &DeleteParams::default()).await?;

    let marked = maps.get("m").await?;
    assert!(marked.metadata.deletion_timestamp.is_some());
    maps.patch("m", &PatchParams::default(), &merge(json!({"metadata": {"finalizers": null}}))).await?;
    assert!(maps.get_opt("m").await?.is_none());
    Ok(())
}
