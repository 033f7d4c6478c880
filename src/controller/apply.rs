//! Step three: carrying out what was planned, one write after another, through the [`Writer`].
//!
//! Invariant: a write that meets an object changed since it was decided upon is repeated once, and only where what was
//! decided upon is still as it was.

use super::cluster::Workload;
use super::errors::{WriteError, classify};
use super::ingest;
use super::plan::{Change, Planned, Verdict, Write};
use super::writer::{Subject, TemplateWrite, Writer, resource};
use crate::decide::{PodFacts, PodResize, Reason};
use crate::plant::planted;
use crate::policy::Policy;
use crate::workload::{ContainerResources, WorkloadKind};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DynamicObject, ListParams};
use kube::{Client, ResourceExt};
use std::time::Duration;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// A planned workload and what became of it.
#[derive(Debug)]
pub(super) struct Applied {
    pub(super) planned: Planned,
    pub(super) outcome: Outcome,
}

/// What became of a change.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Outcome {
    /// There was none.
    Nothing,
    /// All its writes were carried out.
    Done,
    /// It was stopped by a brake that was set meanwhile.
    Held {
        /// The brake.
        reason: Reason,
        /// How many writes were carried out before.
        done: usize,
    },
    /// `done` writes were carried out, then one failed.
    Failed {
        /// Why.
        error: WriteError,
        /// How many writes were carried out before.
        done: usize,
    },
}

/// Carries out changes.
pub(super) struct Executor {
    pub(super) client: Client,
    pub(super) writer: Writer,
    pub(super) deadline: Duration,
}

impl Executor {
    /// Carries out all changes in order; the writer stops each where a brake was set or `policy` changed meanwhile.
    pub(super) async fn apply(
        &self,
        policy: &Policy,
        planned: Vec<Planned>,
        shutdown: &CancellationToken,
    ) -> Vec<Applied> {
        let mut applied = Vec::with_capacity(planned.len());
        for planned in planned {
            let outcome = match &planned.verdict {
                Verdict::Change(change) => self.change(policy, &planned.workload, change, shutdown).await,
                Verdict::Hold(_) | Verdict::Publish => Outcome::Nothing,
            };
            applied.push(Applied { planned, outcome });
        }
        applied
    }

    async fn change(
        &self,
        policy: &Policy,
        workload: &Workload,
        change: &Change,
        shutdown: &CancellationToken,
    ) -> Outcome {
        let subject = Subject { policy, workload: &workload.id };
        for (done, write) in change.writes.iter().enumerate() {
            if shutdown.is_cancelled() {
                return Outcome::Failed { error: WriteError::Stopping, done };
            }
            let written = match write {
                Write::Resize { pod, with_limits, seen } => self.resize(subject, pod, *with_limits, seen).await,
                Write::Template(template) => self.template(subject, workload, template).await,
            };
            match written {
                Ok(()) => {}
                Err(WriteError::Held(reason)) => return Outcome::Held { reason, done },
                Err(error) => return Outcome::Failed { error, done },
            }
        }
        Outcome::Done
    }

    async fn resize(
        &self,
        subject: Subject<'_>,
        pod: &PodResize,
        with_limits: bool,
        seen: &[ContainerResources],
    ) -> Result<(), WriteError> {
        let written = match self.writer.resize(subject, pod, with_limits).await {
            Err(WriteError::Stale) => {
                let resource_version = self.unchanged_pod(&subject.workload.namespace, pod, seen).await?;
                self.writer.resize(subject, &PodResize { resource_version, ..pod.clone() }, with_limits).await
            }
            answer => answer,
        };
        match written {
            Ok(answer) => {
                warn_if_altered(pod, &answer);
                Ok(())
            }
            // A pod that is gone needs no resize; its successor is seen by the watch.
            Err(WriteError::Gone) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The pod's present version, where its resources are those that were decided upon.
    async fn unchanged_pod(
        &self,
        namespace: &str,
        pod: &PodResize,
        seen: &[ContainerResources],
    ) -> Result<String, WriteError> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        // A list of one, for which the right to list that the watch needs is enough.
        let one = ListParams::default().fields(&format!("metadata.name={}", pod.pod));
        let now = self.read(api.list(&one)).await?.items.into_iter().next().ok_or(WriteError::Gone)?;
        let facts = ingest::pod(&now).filter(|pod| pod.running && !pod.held).and_then(|pod| pod.facts.ok());
        match facts {
            Some(facts) if facts.uid != pod.uid => Err(WriteError::Gone),
            Some(facts) if resources(&facts).eq(seen) || planted(105) => Ok(facts.resource_version),
            _ => Err(WriteError::Stale),
        }
    }

    async fn template(
        &self,
        subject: Subject<'_>,
        workload: &Workload,
        write: &TemplateWrite,
    ) -> Result<(), WriteError> {
        match self.writer.apply_template(subject, write).await {
            Err(WriteError::Stale) => {
                let resource_version = self.unchanged_workload(workload).await?;
                self.writer.apply_template(subject, &TemplateWrite { resource_version, ..write.clone() }).await
            }
            answer => answer,
        }
    }

    /// The workload's present version, where nothing that was decided upon has changed.
    async fn unchanged_workload(&self, seen: &Workload) -> Result<String, WriteError> {
        let id = &seen.id;
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &id.namespace, &resource(id.kind));
        let object = self.read(api.get(&id.name)).await?;
        let version = object.resource_version().unwrap_or_default();
        let now = trimmed(id.kind, object).ok_or(WriteError::Stale)?;
        let same = now.uid == seen.uid
            && now.template == seen.template
            && now.reverted_by == seen.reverted_by
            && now.rollout == seen.rollout
            && !now.deleting
            && !now.held;
        if same { Ok(version) } else { Err(WriteError::Stale) }
    }

    async fn read<T>(&self, call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, WriteError> {
        match timeout(self.deadline, call).await {
            Ok(answer) => answer.map_err(classify),
            Err(_) => Err(WriteError::Stale),
        }
    }
}

fn trimmed(kind: WorkloadKind, object: DynamicObject) -> Option<Workload> {
    match kind {
        WorkloadKind::StatefulSet => object.try_parse().ok().map(ingest::stateful_set),
        WorkloadKind::DaemonSet => object.try_parse().ok().map(ingest::daemon_set),
        _ => object.try_parse().ok().map(ingest::deployment),
    }
}

fn resources(facts: &PodFacts) -> impl Iterator<Item = &ContainerResources> {
    facts.containers.iter().map(|container| &container.resources)
}

/// Admission (LimitRanger) can add limits and requests to a resize; what came out is what counts from now on.
fn warn_if_altered(wanted: &PodResize, answer: &Pod) {
    let Some(Ok(got)) = ingest::pod(answer).map(|pod| pod.facts) else { return };
    let altered = wanted.containers.iter().any(|container| !resources(&got).any(|c| c == container));
    if altered {
        tracing::warn!(pod = wanted.pod, ?got.containers, "the API server changed what the resize asked for; look for a LimitRange in its namespace");
    }
}
