//! A test's own namespace.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, Resource, ResourceExt};
use serde_json::json;
use tokio::runtime::Handle;

use super::workload::Builder;
use super::{Kind, Result, objects, wait_for};

const USABLE_WITHIN: Duration = Duration::from_secs(20);

/// What metrics-server says of one container, as it spells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    pub cpu: String,
    pub memory: String,
}

impl Usage {
    /// CPU, rounded to millicores.
    pub fn millicores(&self) -> Result<u64> {
        let units = [("n", 1), ("u", 1_000), ("m", 1_000_000), ("", 1_000_000_000)];
        let nanocores = read(&self.cpu, &units).with_context(|| format!("read {self:?}"))?;
        Ok((nanocores + 500_000) / 1_000_000)
    }

    pub fn bytes(&self) -> Result<u64> {
        let units = [("Ki", 1 << 10), ("Mi", 1 << 20), ("Gi", 1 << 30), ("", 1)];
        read(&self.memory, &units).with_context(|| format!("read {self:?}"))
    }
}

/// A whole number with one of these units; the units that metrics-server uses.
fn read(quantity: &str, units: &[(&str, u64)]) -> Option<u64> {
    let mut readings = units.iter().filter_map(|(unit, factor)| {
        let number: u64 = quantity.strip_suffix(unit)?.parse().ok()?;
        Some(number * factor)
    });
    readings.next()
}

/// A namespace that goes with the test that made it.
pub struct Namespace {
    name: String,
    client: Client,
}

impl Namespace {
    /// Creates it.
    pub async fn new(client: Client, name: &str) -> Result<Self> {
        let namespaces: Api<v1::Namespace> = Api::all(client.clone());
        let object = serde_json::from_value(json!({"metadata": {"name": name}}))?;
        let created = namespaces.create(&PostParams::default(), &object).await;
        created.with_context(|| format!("create namespace {name}"))?;
        Ok(Self { name: name.to_owned(), client })
    }

    /// Creates it and waits for its `default` ServiceAccount, before which no
    /// pod is admitted.
    pub async fn create(client: Client, name: &str) -> Result<Self> {
        let namespace = Self::new(client, name).await?;
        let accounts: Api<v1::ServiceAccount> = namespace.api();
        wait_for("the default ServiceAccount", USABLE_WITHIN, || async { Ok(accounts.get("default").await?) }).await?;
        Ok(namespace)
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// The API of a kind in here, as the administrator.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client(), &self.name)
    }

    /// Asks for its deletion, and of everything in it.
    pub async fn delete(&self) -> Result {
        let namespaces: Api<v1::Namespace> = Api::all(self.client());
        namespaces.delete(&self.name, &DeleteParams::default()).await?;
        Ok(())
    }

    /// Labels the namespace itself.
    pub async fn label(&self, key: &str, value: &str) -> Result {
        let namespaces: Api<v1::Namespace> = Api::all(self.client());
        let patch = Patch::Merge(json!({"metadata": {"labels": {key: value}}}));
        namespaces.patch(&self.name, &PatchParams::default(), &patch).await?;
        Ok(())
    }

    /// Server-side applies manifests in here, as kubectl would.
    pub async fn apply(&self, yaml: &str) -> Result<Vec<DynamicObject>> {
        self.apply_as("kubectl", yaml).await
    }

    /// Server-side applies manifests in here under another field manager.
    pub async fn apply_as(&self, manager: &str, yaml: &str) -> Result<Vec<DynamicObject>> {
        objects::apply(&self.client, manager, Some(&self.name), yaml).await
    }

    pub fn deployment(&self, name: &str) -> Builder<'_> {
        Builder::new(self, Kind::Deployment, name)
    }

    pub fn stateful_set(&self, name: &str) -> Builder<'_> {
        Builder::new(self, Kind::StatefulSet, name)
    }

    pub fn daemon_set(&self, name: &str) -> Builder<'_> {
        Builder::new(self, Kind::DaemonSet, name)
    }

    /// What metrics.k8s.io lists now: pod, then container.
    pub async fn usage(&self) -> Result<BTreeMap<String, BTreeMap<String, Usage>>> {
        let kind = GroupVersionKind::gvk("metrics.k8s.io", "v1beta1", "PodMetrics");
        let resource = ApiResource::from_gvk_with_plural(&kind, "pods");
        let api: Api<DynamicObject> = Api::namespaced_with(self.client(), &self.name, &resource);
        let list = api.list(&ListParams::default()).await?;
        let pods = list.items.into_iter();
        Ok(pods.map(|pod| (pod.name_any(), container_usages(&pod.data))).collect())
    }
}

fn container_usages(pod: &serde_json::Value) -> BTreeMap<String, Usage> {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let containers = pod["containers"].as_array().into_iter().flatten();
    containers
        .map(|container| {
            let usage = Usage { cpu: text(&container["usage"]["cpu"]), memory: text(&container["usage"]["memory"]) };
            (text(&container["name"]), usage)
        })
        .collect()
}

impl Drop for Namespace {
    /// Begins the deletion and does not wait for it: it only keeps a long run's
    /// cluster small.
    fn drop(&mut self) {
        let namespaces: Api<v1::Namespace> = Api::all(self.client());
        let name = self.name.clone();
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move { namespaces.delete(&name, &DeleteParams::default()).await });
        }
    }
}
