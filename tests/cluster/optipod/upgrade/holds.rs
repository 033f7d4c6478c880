//! What an upgrade and a downgrade leave as it was.

use anyhow::{Context, ensure};
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Map, Value, json};

use super::super::SOON;
use super::super::install::{CONTROLLER, NAMESPACE};
use super::super::policy::Policy;
use super::super::process::Optipod;
use super::release::{Left, entries, raw, text};
use super::told;
use crate::harness::{Cluster, Result, requests, wait_for};

/// Of an entry: what was done, why, and what was there before. Nothing of it changes while the workload does not.
const REMEMBERED: [&str; 10] =
    ["uid", "lastApplied", "method", "cause", "previous", "target", "raised", "oomKills", "rolledBack", "status"];
const KINDS: [&str; 5] = ["pods", "deployments", "statefulsets", "daemonsets", "replicasets"];

/// Waits until this controller has evaluated the release's policies, and holds what their status said.
pub async fn is_kept(left: &Left, controller: &Optipod) -> Result {
    for (policy, number) in left.release.policies.iter().zip(0..) {
        let name = format!("{}/{}", text(policy, "/metadata/namespace"), text(policy, "/metadata/name"));
        let cycles = format!("optipod_reconciliation_duration_seconds_count{{policy=\"{name}\"}}");
        controller
            .wait_for(format!("policy {name} to be as it was"), || async {
                let cycles = controller.metric(&cycles).await?.unwrap_or(0.0);
                ensure!(cycles >= 1.0, "this controller has not evaluated it");
                let now = told(left).await?.swap_remove(number);
                ensure!(is_within(&policy["spec"], &now["spec"]), "{} became {}", policy["spec"], now["spec"]);
                ensure!(now["status"]["observedGeneration"] == now["metadata"]["generation"], "not evaluated yet");
                for field in ["workloads", "updated", "omitted"] {
                    let (then, now) = (&policy["status"]["summary"][field], &now["status"]["summary"][field]);
                    ensure!(then == now, "summary: {now} {field}, {then} before");
                }
                for entry in entries(policy) {
                    entry_is_kept(entry, &now)?;
                }
                Ok(())
            })
            .await?;
    }
    Ok(())
}

fn entry_is_kept(then: &Value, policy: &Value) -> Result {
    let id = |entry: &Value| ["/kind", "/namespace", "/name"].map(|field| text(entry, field));
    let now = entries(policy).iter().find(|entry| id(entry) == id(then));
    let now = now.with_context(|| format!("no entry of {:?}", id(then)))?;
    for field in REMEMBERED {
        // A later version may have come to know the uid.
        let is_same = now[field] == then[field] || field == "uid" && then[field].is_null();
        ensure!(is_same, "{field} of {:?} was {}, is {}: {now}", id(then), then[field], now[field]);
    }
    // More is used: what was changed would be changed again, what was taken back is barred.
    let reason = match (then["lastApplied"].is_string(), then["rolledBack"].is_object()) {
        (true, false) => "Cooldown",
        _ => then["reason"].as_str().unwrap_or_default(),
    };
    ensure!(now["reason"] == reason, "{:?} is held for {}, not {reason}: {now}", id(then), now["reason"]);
    Ok(())
}

/// The audit log has writes of the controller's to policies' statuses, and none to a pod or a workload.
pub fn controller_changed_nothing(cluster: &Cluster) -> Result {
    let account = format!("system:serviceaccount:{NAMESPACE}:{CONTROLLER}");
    let mut writes = cluster.audit_log()?;
    writes.retain(|event| {
        let is_write = ["create", "update", "patch", "delete"].contains(&event["verb"].as_str().unwrap_or_default());
        is_write && event["user"]["username"] == account
    });
    let resource = |event: &Value| text(event, "/objectRef/resource");
    ensure!(writes.iter().any(|event| resource(event) == "optimizationpolicies"), "no write at all: {writes:?}");
    let changed = writes.iter().find(|event| KINDS.contains(&&*resource(event)));
    ensure!(changed.is_none(), "the controller wrote: {changed:?}");
    Ok(())
}

/// Under the release's own CRD again: what it knows is told as before, and could be written so.
pub async fn still_says(left: &Left, before: &[Value]) -> Result {
    for ((policy, before), now) in left.release.policies.iter().zip(before).zip(told(left).await?) {
        ensure!(now["spec"] == policy["spec"], "{} became {}", policy["spec"], now["spec"]);
        ensure!(is_within(&now["status"], &before["status"]), "{} became {}", before["status"], now["status"]);
        for entry in entries(policy) {
            entry_is_kept(entry, &now)?;
        }
        let api = raw(&left.namespaces.first().context("no namespace")?.client(), &text(policy, "/metadata/namespace"));
        let dry_run = PostParams { dry_run: true, ..PostParams::default() };
        let name = text(policy, "/metadata/name");
        api.replace(&name, &dry_run, &serde_json::from_value(now.clone())?).await.context("its spec is not valid")?;
        let status = Patch::Merge(json!({"status": now["status"]}));
        let dry_run = PatchParams::default().dry_run();
        api.patch_status(&name, &dry_run, &status).await.context("its status is not valid")?;
    }
    Ok(())
}

/// Every field of `part` is in `whole`, with the same value.
fn is_within(part: &Value, whole: &Value) -> bool {
    let object = |part: &Map<String, Value>| part.iter().all(|(key, value)| is_within(value, &whole[key]));
    match part {
        Value::Object(fields) => object(fields),
        Value::Array(all) => {
            let others = whole.as_array().map(Vec::as_slice).unwrap_or_default();
            all.len() == others.len() && all.iter().zip(others).all(|(one, other)| is_within(one, other))
        }
        other => other == whole,
    }
}

/// With `onDelete: Restore` a deleted policy puts back what the release changed.
pub async fn is_restored(left: &Left, controller: &Optipod) -> Result {
    for policy in &left.release.policies {
        super::edit(left, policy, json!({"updateStrategy": {"onDelete": "Restore"}})).await?;
    }
    for policy in &left.release.policies {
        let namespace = text(policy, "/metadata/namespace");
        let home = left.namespaces.iter().find(|n| n.name() == namespace).context("no namespace")?;
        let object = Policy::existing(home, &text(policy, "/metadata/name"));
        let promised = || async {
            let finalizers = object.finalizers().await?;
            ensure!(finalizers == ["optipod.io/restore"], "{finalizers:?}");
            Ok(())
        };
        controller.wait_for("the finalizer", promised).await?;
        object.delete().await?;
        object.wait_gone().await?;
        for entry in entries(policy).iter().filter(|entry| entry["lastApplied"].is_string()) {
            entry_is_restored(left, entry).await?;
        }
    }
    Ok(())
}

/// The template is what it was before a rollout, and pods are what their template says.
async fn entry_is_restored(left: &Left, entry: &Value) -> Result {
    let workload = left.workload(entry)?;
    for size in entry["target"].as_array().into_iter().flatten() {
        let container = text(size, "/container");
        let template = workload.template_requests(&container).await?;
        if entry["method"] == "Rollout" {
            let mut previous = entry["previous"].as_array().into_iter().flatten();
            let mut before = previous.find(|size| text(size, "/container") == container).cloned();
            let before = before.as_mut().and_then(Value::as_object_mut).context("no previous size")?;
            before.remove("container");
            ensure!(json!(before) == template, "{} has {template}, had {before:?}", workload.name);
        }
        // A rollout takes its time.
        wait_for(format!("the pods of {} to be as the template", workload.name), SOON, || async {
            for pod in workload.wait_ready(SOON).await? {
                let now = json!(requests(&pod, &container)?);
                ensure!(now == template, "a pod has {now}, the template {template}");
            }
            Ok(())
        })
        .await?;
    }
    Ok(())
}
