//! Applying manifests.

use std::time::Duration;

use anyhow::Context;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::discovery::{ApiResource, Scope, pinned_kind};
use kube::{Client, ResourceExt};
use serde::Deserialize;

use super::{Result, wait_for};

/// The kind of a CustomResourceDefinition is served a moment after its creation.
const SERVED_WITHIN: Duration = Duration::from_secs(10);

/// Server-side applies every document of `yaml` as `manager`, without force.
/// `namespace` is for the documents that are namespaced and name none.
pub async fn apply(client: &Client, manager: &str, namespace: Option<&str>, yaml: &str) -> Result<Vec<DynamicObject>> {
    let mut applied = Vec::new();
    for object in parse(yaml)? {
        let api = api_of(client, &object, namespace).await?;
        let params = PatchParams::apply(manager);
        let patch = Patch::Apply(&object);
        let answer = api.patch(&object.name_any(), &params, &patch).await;
        applied.push(answer.with_context(|| format!("apply {}", describe(&object)))?);
    }
    Ok(applied)
}

fn parse(yaml: &str) -> Result<Vec<DynamicObject>> {
    let mut objects = Vec::new();
    for document in serde_yaml::Deserializer::from_str(&outdented(yaml)) {
        let value = serde_json::Value::deserialize(document).context("parse the manifest")?;
        if !value.is_null() {
            objects.push(serde_json::from_value(value).context("read the manifest")?);
        }
    }
    Ok(objects)
}

/// The manifest without the indentation of its first line, so that one in the
/// middle of a function can have several documents: `---` counts only at the
/// start of a line.
pub fn outdented(yaml: &str) -> String {
    let first = yaml.lines().find(|line| !line.trim().is_empty());
    let first = first.unwrap_or_default();
    let indentation = &first[..first.len() - first.trim_start().len()];
    let lines = yaml.lines();
    let lines = lines.map(|line| line.strip_prefix(indentation).unwrap_or(line));
    lines.collect::<Vec<_>>().join("\n")
}

async fn api_of(client: &Client, object: &DynamicObject, namespace: Option<&str>) -> Result<Api<DynamicObject>> {
    let types = object.types.as_ref().context("a manifest needs a kind")?;
    let kind = GroupVersionKind::try_from(types).context("read apiVersion")?;
    let (resource, scope) = discover(client, &kind).await?;
    Ok(match scope {
        Scope::Cluster => Api::all_with(client.clone(), &resource),
        Scope::Namespaced => {
            let name = object.namespace().or(namespace.map(str::to_owned));
            let name = name.with_context(|| format!("{} needs a namespace", describe(object)))?;
            Api::namespaced_with(client.clone(), &name, &resource)
        }
    })
}

async fn discover(client: &Client, kind: &GroupVersionKind) -> Result<(ApiResource, Scope)> {
    let what = format!("{} to be served", kind.kind);
    wait_for(what, SERVED_WITHIN, || async {
        let (resource, capabilities) = pinned_kind(client, kind).await?;
        Ok((resource, capabilities.scope))
    })
    .await
}

fn describe(object: &DynamicObject) -> String {
    let kind = object.types.as_ref().map_or("?", |types| &types.kind);
    format!("{kind} {}", object.name_any())
}
