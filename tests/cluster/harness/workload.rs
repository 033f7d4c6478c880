//! Deployments, StatefulSets and DaemonSets whose pods use what we say.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DynamicObject, ListParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use super::{Namespace, Result, is_ready, wait_for};

/// The field manager of everything that a test creates.
const OWNER: &str = "kubectl-create";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Deployment,
    StatefulSet,
    DaemonSet,
}

impl Kind {
    fn resource(self) -> ApiResource {
        ApiResource::from_gvk(&GroupVersionKind::gvk("apps", "v1", &format!("{self:?}")))
    }
}

/// A container of a template, with what it will use.
#[derive(Clone, Default)]
pub struct Container {
    name: String,
    requests: BTreeMap<String, String>,
    limits: BTreeMap<String, String>,
    restarts_on_resize_of: Vec<String>,
    usage: Option<(String, String)>,
}

impl Container {
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    pub fn requests(mut self, cpu: &str, memory: &str) -> Self {
        self.requests = quantities(cpu, memory);
        self
    }

    pub fn limits(mut self, cpu: &str, memory: &str) -> Self {
        self.limits = quantities(cpu, memory);
        self
    }

    /// What metrics-server will say of it; without, 1m and 1Mi.
    pub fn usage(mut self, cpu: &str, memory: &str) -> Self {
        self.usage = Some((cpu.to_owned(), memory.to_owned()));
        self
    }

    /// `resizePolicy: RestartContainer` for `cpu` or `memory`.
    pub fn restarts_on_resize_of(mut self, resource: &str) -> Self {
        self.restarts_on_resize_of.push(resource.to_owned());
        self
    }

    fn manifest(&self) -> Value {
        let policy = |resource| json!({"resourceName": resource, "restartPolicy": "RestartContainer"});
        let policies: Vec<Value> = self.restarts_on_resize_of.iter().map(policy).collect();
        json!({
            "name": self.name,
            "image": format!("test.invalid/{}:1", self.name),
            "resources": {"requests": self.requests, "limits": self.limits},
            "resizePolicy": policies,
        })
    }
}

fn quantities(cpu: &str, memory: &str) -> BTreeMap<String, String> {
    let pairs = [("cpu", cpu), ("memory", memory)];
    let given = pairs.into_iter().filter(|(_, value)| !value.is_empty());
    given.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// A workload to be created. Its pods carry the label `app: <name>`.
pub struct Builder<'a> {
    namespace: &'a Namespace,
    kind: Kind,
    name: String,
    replicas: u32,
    containers: Vec<Container>,
    annotations: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
    more: Vec<(String, Value)>,
}

impl<'a> Builder<'a> {
    pub fn new(namespace: &'a Namespace, kind: Kind, name: &str) -> Self {
        Self {
            namespace,
            kind,
            name: name.to_owned(),
            replicas: 1,
            containers: Vec::new(),
            annotations: BTreeMap::new(),
            labels: BTreeMap::from([("app".to_owned(), name.to_owned())]),
            more: Vec::new(),
        }
    }

    /// Nothing for a DaemonSet, which has one pod on each node.
    pub fn replicas(mut self, replicas: u32) -> Self {
        self.replicas = replicas;
        self
    }

    pub fn container(mut self, container: Container) -> Self {
        self.containers.push(container);
        self
    }

    /// A label of the workload (not of its pods).
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.insert(key.to_owned(), value.to_owned());
        self
    }

    /// An annotation of the pods: `resize/hold`, `start/delay`, ... (`kwok.yaml`).
    pub fn pod_annotation(mut self, key: &str, value: &str) -> Self {
        self.annotations.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Sets one more field of its spec: `/updateStrategy`, `/template/spec/initContainers`, ...
    pub fn with(mut self, pointer: &str, value: Value) -> Self {
        self.more.push((pointer.to_owned(), value));
        self
    }

    /// Creates it and returns at once; `Workload::wait_ready` waits for its pods.
    pub async fn create(self) -> Result<Workload> {
        let api = Api::namespaced_with(self.namespace.client(), self.namespace.name(), &self.kind.resource());
        let object: DynamicObject = serde_json::from_value(self.manifest())?;
        let params = PostParams { field_manager: Some(OWNER.to_owned()), ..PostParams::default() };
        let created = api.create(&params, &object).await;
        created.with_context(|| format!("create {:?} {}", self.kind, self.name))?;
        Ok(Workload::new(self.namespace, self.kind, &self.name))
    }

    fn manifest(&self) -> Value {
        let mut annotations = self.annotations.clone();
        for container in &self.containers {
            if let Some((cpu, memory)) = &container.usage {
                annotations.insert(format!("usage/cpu.{}", container.name), cpu.clone());
                annotations.insert(format!("usage/memory.{}", container.name), memory.clone());
            }
        }
        let containers: Vec<Value> = self.containers.iter().map(Container::manifest).collect();
        let mut spec = json!({
            "selector": {"matchLabels": {"app": self.name}},
            "template": {
                "metadata": {"labels": {"app": self.name}, "annotations": annotations},
                "spec": {"containers": containers, "terminationGracePeriodSeconds": 0},
            },
        });
        if self.kind != Kind::DaemonSet {
            spec["replicas"] = self.replicas.into();
        }
        if self.kind == Kind::StatefulSet {
            spec["serviceName"] = self.name.clone().into();
            spec["podManagementPolicy"] = "Parallel".into();
        }
        for (pointer, value) in &self.more {
            let (parent, field) = pointer.rsplit_once('/').unwrap_or_default();
            if let Some(parent) = spec.pointer_mut(parent) {
                parent[field] = value.clone();
            }
        }
        json!({
            "apiVersion": "apps/v1",
            "kind": format!("{:?}", self.kind),
            "metadata": {"name": self.name, "labels": self.labels},
            "spec": spec,
        })
    }
}

/// A workload in the cluster.
pub struct Workload {
    client: Client,
    pub namespace: String,
    pub kind: Kind,
    pub name: String,
}

impl Workload {
    /// One that somebody else creates.
    pub fn new(namespace: &Namespace, kind: Kind, name: &str) -> Self {
        let (client, namespace) = (namespace.client(), namespace.name().to_owned());
        Self { client, namespace, kind, name: name.to_owned() }
    }

    /// Its API, for whatever has no helper here.
    pub fn api(&self) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.namespace, &self.kind.resource())
    }

    pub async fn get(&self) -> Result<DynamicObject> {
        let got = self.api().get(&self.name).await;
        got.with_context(|| format!("get {:?} {}", self.kind, self.name))
    }

    pub async fn generation(&self) -> Result<i64> {
        let object = self.get().await?;
        object.metadata.generation.context("no generation")
    }

    /// `spec.template`.
    pub async fn template(&self) -> Result<Value> {
        Ok(self.get().await?.data["spec"]["template"].clone())
    }

    /// The template's requests of one container.
    pub async fn template_requests(&self, container: &str) -> Result<Value> {
        let template = self.template().await?;
        let all = template["spec"]["containers"].as_array();
        let found = all.and_then(|all| all.iter().find(|c| c["name"] == container));
        let found = found.with_context(|| format!("no container {container} in the template"))?;
        Ok(found["resources"]["requests"].clone())
    }

    /// The field managers of the object itself, subresources left out.
    pub async fn field_managers(&self) -> Result<Vec<String>> {
        let entries = self.get().await?.metadata.managed_fields.unwrap_or_default();
        let own = entries.into_iter().filter(|entry| entry.subresource.is_none());
        Ok(own.filter_map(|entry| entry.manager).collect())
    }

    /// Its pods that are not being deleted, by name.
    pub async fn pods(&self) -> Result<Vec<Pod>> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let label = format!("app={}", self.name);
        let mut pods = api.list(&ListParams::default().labels(&label)).await?.items;
        pods.retain(|pod| pod.metadata.deletion_timestamp.is_none());
        pods.sort_by_key(ResourceExt::name_any);
        Ok(pods)
    }

    /// Waits until it has as many Ready pods as its status wants, of the
    /// current template, and returns them.
    pub async fn wait_ready(&self, deadline: Duration) -> Result<Vec<Pod>> {
        let what = format!("{:?} {} to be ready", self.kind, self.name);
        wait_for(what, deadline, || async {
            let object = self.get().await?;
            let status = &object.data["status"];
            let seen = status["observedGeneration"].as_i64();
            ensure!(seen == object.metadata.generation, "generation {seen:?} seen");
            let (wanted, ready) = match self.kind {
                Kind::DaemonSet => ("desiredNumberScheduled", "numberReady"),
                _ => ("replicas", "readyReplicas"),
            };
            let wanted = match self.kind {
                Kind::DaemonSet => status[wanted].as_u64(),
                _ => object.data["spec"][wanted].as_u64(),
            };
            let ready = status[ready].as_u64().unwrap_or(0);
            let pods = self.pods().await?;
            ensure!(wanted == Some(ready), "{ready} of {wanted:?} ready: {status}");
            ensure!(pods.len() as u64 == ready, "{} pods for {ready}", pods.len());
            ensure!(pods.iter().all(is_ready), "not all pods are Ready");
            Ok(pods)
        })
        .await
    }
}
