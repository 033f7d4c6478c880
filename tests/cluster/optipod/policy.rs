//! A test's policies, and what their status says.

use anyhow::{Context, ensure};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use optipod::policy::OptimizationPolicy;
use optipod::policy::types::{OptimizationPolicyStatus, WorkloadStatus};
use serde_json::{Value, json};

use super::SOON;
use super::process::Optipod;
use crate::harness::{Namespace, Result, Workload, wait_for};

/// A policy in the cluster.
pub struct Policy {
    api: Api<OptimizationPolicy>,
    pub namespace: String,
    pub name: String,
}

impl Policy {
    /// Creates a policy in mode Auto for everything in `namespace`, with `change`
    /// merged into its spec. It asks for little data and is evaluated often; CPU
    /// follows the median, because single points of a busy metrics-server are off.
    pub async fn create(namespace: &Namespace, name: &str, change: Value) -> Result<Self> {
        Self::create_as(namespace.client(), namespace, name, change).await
    }

    /// The same, as whoever has this client.
    pub async fn create_as(client: Client, namespace: &Namespace, name: &str, change: Value) -> Result<Self> {
        let mut spec = json!({
            "mode": "Auto",
            "selector": {"namespaces": {"allow": [namespace.name()]}},
            "metricsConfig": {
                "rollingWindow": "5m", "minSamples": 5, "minSpan": "1s", "safetyFactor": 1.5, "cpu": {"percentile": "P50"},
            },
            "resourceBounds": {"cpu": {"min": "10m", "max": "4"}, "memory": {"min": "16Mi", "max": "4Gi"}},
            "reconciliationInterval": "10s",
        });
        merge(&mut spec, change, Nulls::Remove);
        let object = json!({
            "apiVersion": "optipod.io/v1alpha1", "kind": "OptimizationPolicy", "metadata": {"name": name}, "spec": spec,
        });
        let api = Api::namespaced(client, namespace.name());
        let created = api.create(&PostParams::default(), &serde_json::from_value(object)?).await;
        created.with_context(|| format!("create policy {name}"))?;
        Ok(Self { api, namespace: namespace.name().to_owned(), name: name.to_owned() })
    }

    /// One that is there.
    pub fn existing(namespace: &Namespace, name: &str) -> Self {
        let api = Api::namespaced(namespace.client(), namespace.name());
        Self { api, namespace: namespace.name().to_owned(), name: name.to_owned() }
    }

    pub async fn status(&self) -> Result<OptimizationPolicyStatus> {
        let policy = self.api.get(&self.name).await?;
        policy.status.context("the policy has no status")
    }

    pub async fn finalizers(&self) -> Result<Vec<String>> {
        Ok(self.api.get(&self.name).await?.metadata.finalizers.unwrap_or_default())
    }

    /// Merges a change into its spec.
    pub async fn set(&self, change: &Value) -> Result {
        self.api.patch(&self.name, &PatchParams::default(), &Patch::Merge(json!({ "spec": change }))).await?;
        Ok(())
    }

    /// Asks for its deletion.
    pub async fn delete(&self) -> Result {
        self.api.delete(&self.name, &DeleteParams::default()).await?;
        Ok(())
    }

    /// Waits until nothing keeps it any more.
    pub async fn wait_gone(&self) -> Result {
        wait_for(format!("policy {} to go", self.full_name()), SOON, || async {
            let left = self.api.get_opt(&self.name).await?;
            ensure!(left.is_none(), "{:?}", left.map(|policy| (policy.metadata.finalizers, policy.status)));
            Ok(())
        })
        .await
    }

    /// What the status says of one workload.
    pub async fn entry(&self, workload: &Workload) -> Result<WorkloadStatus> {
        let status = self.status().await?;
        let kind = format!("{:?}", workload.kind);
        let mut workloads = status.workloads.iter();
        let found = workloads.find(|entry| entry.kind == kind && entry.name == workload.name);
        let found = found.with_context(|| format!("no entry of {kind} {} in {status:?}", workload.name))?;
        Ok(found.clone())
    }

    /// Status and reason of a condition, as in `True AutoMode`.
    pub async fn condition(&self, kind: &str) -> Result<String> {
        let conditions = self.status().await?.conditions;
        let found = conditions.iter().find(|condition| condition.type_ == kind);
        let found = found.with_context(|| format!("no condition {kind}"))?;
        Ok(format!("{} {}", found.status, found.reason))
    }

    /// `namespace/name`, the label of some metrics.
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

impl Optipod {
    /// Waits until the policy's status says `word` of the workload: `Applied`,
    /// `Published`, or `Skipped` with a reason, as in `Skipped DryRun`.
    pub async fn wait_status(&self, policy: &Policy, workload: &Workload, word: &str) -> Result<WorkloadStatus> {
        let what = format!("policy {} to say {word} of {}", policy.full_name(), workload.name);
        self.wait_for(what, || async {
            let entry = policy.entry(workload).await?;
            let said = match (entry.status.as_str(), entry.reason.as_deref()) {
                ("Skipped", Some(reason)) => format!("Skipped {reason}"),
                (status, _) => status.to_owned(),
            };
            ensure!(said == word, "{said}: {:?}", entry.message);
            Ok(entry)
        })
        .await
    }

    /// Waits until the policy has been evaluated as a whole `cycles` more times.
    pub async fn wait_cycles(&self, policy: &Policy, cycles: u32) -> Result {
        let count = || async {
            let series = format!("optipod_reconciliation_duration_seconds_count{{policy=\"{}\"}}", policy.full_name());
            Ok::<f64, anyhow::Error>(self.metric(&series).await?.unwrap_or(0.0))
        };
        let enough = count().await? + f64::from(cycles);
        let what = format!("{cycles} more cycles of policy {}", policy.full_name());
        self.wait_for(what, || async {
            let seen = count().await?;
            ensure!(seen >= enough, "{seen} of {enough}");
            Ok(())
        })
        .await
    }
}

/// What a null in a merge patch does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Nulls {
    /// It removes, as RFC 7396 says.
    Remove,
    /// It stays, for a request with a null in it.
    Stay,
}

/// A JSON merge patch (RFC 7396).
pub fn merge(into: &mut Value, change: Value, nulls: Nulls) {
    let Value::Object(change) = change else {
        *into = change;
        return;
    };
    let mut merged = into.as_object().cloned().unwrap_or_default();
    for (key, value) in change {
        if value.is_null() && nulls == Nulls::Remove {
            merged.remove(&key);
        } else {
            merge(merged.entry(key).or_insert(Value::Null), value, nulls);
        }
    }
    *into = Value::Object(merged);
}
