//! The main job under the chart's rights: nothing is refused, and nothing is granted for nothing.

use std::collections::BTreeSet;

use anyhow::{Context, anyhow, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde_json::{Value, json};

use super::super::in_place::{ensure_is_resized, starved};
use super::super::install::{CONTROLLER, NAMESPACE, RECOMMENDER};
use super::super::look::{ensure_resized, events, pair};
use super::super::policy::Policy;
use super::super::rollout::recreate_only;
use super::super::{SOON, repository};
use super::asked::asked;
use super::granted::{Right, granted, table};
use super::{Chart, chart};
use crate::harness::{Cluster, Namespace, Result, Workload};

/// Kubernetes grants them to every account (`system:basic-user`): what may I do, and who am I?
const OF_EVERYBODY: [(&str, &str, &str); 2] = [
    ("create", "authorization.k8s.io", "selfsubjectaccessreviews"),
    ("create", "authentication.k8s.io", "selfsubjectreviews"),
];

pub(super) const DOCUMENT: &str = "docs/security.md";

pub async fn the_main_job_uses_every_right_that_the_chart_grants_and_no_other(_: &'static Cluster) -> Result {
    let chart = chart().await?;
    let job = main_job(chart).await;
    let table = used_as_granted(chart, job).await?;
    ensure!(repository(DOCUMENT)?.contains(&table), "the table of {DOCUMENT} is not what is granted:\n{table}");
    Ok(())
}

/// Nothing was refused and nothing is granted for nothing, after the job; the table of what is granted.
pub(super) async fn used_as_granted(chart: &Chart, job: Result) -> Result<String> {
    let (log, mut accounts, mut wrong) = (chart.cluster.audit_log()?, Vec::new(), Vec::new());
    for account in [RECOMMENDER, CONTROLLER] {
        let granted = granted(&chart.cluster, account).await?;
        wrong.extend(differences(account, &granted, &log));
        accounts.push((account, granted));
    }
    // Where a right is missing, this tells why the job was not done.
    job.map_err(|error| anyhow!("{error:#}\n{}", wrong.join("\n")))?;
    let table = table(&accounts);
    ensure!(wrong.is_empty(), "{}\nThe rights that are granted:\n{table}", wrong.join("\n"));
    Ok(table)
}

fn differences(account: &str, granted: &BTreeSet<Right>, log: &[Value]) -> Vec<String> {
    let asked = asked(log, account);
    let is_everybodys = |right: &Right| OF_EVERYBODY.contains(&(&right.verb, &right.group, &right.resource));
    let mut wrong = Vec::new();
    for (right, refusals) in &asked {
        wrong.extend(refusals.iter().map(|refusal| format!("{account} was refused: {right}: {refusal}")));
        if !is_everybodys(right) && !granted.iter().any(|grant| grant.covers(right)) {
            wrong.push(format!("{account} is not granted: {right}"));
        }
    }
    let unused = granted.iter().filter(|grant| !asked.keys().any(|right| grant.covers(right)));
    wrong.extend(unused.map(|grant| format!("{account} never uses: {grant}")));
    wrong
}

/// In place and by rollout, told in status and events, stopped and let go on, and put back.
pub(super) async fn main_job(chart: &Chart) -> Result {
    let (resized, rolled) = (Resized::create(chart).await?, Rolled::create(chart).await?);
    resized.is_done(chart).await?;
    rolled.is_done(chart).await?;
    leads(chart).await?;
    // What is told a second time is a change of the first event.
    let held = Held { namespace: &resized.namespace, web: &resized.web, policy: &resized.policy };
    for told in 1..=2 {
        brake(chart, &held, told).await?;
    }
    resized.policy.delete().await?;
    rolled.policy.delete().await?;
    resized.is_put_back().await?;
    rolled.is_put_back().await
}

/// A Deployment whose pods are resized.
struct Resized {
    namespace: Namespace,
    web: Workload,
    policy: Policy,
}

impl Resized {
    async fn create(chart: &Chart) -> Result<Self> {
        let namespace = chart.cluster.namespace("golden-resize").await?;
        let web = namespace.deployment("web").replicas(2).container(starved()).create().await?;
        web.wait_ready(SOON).await?;
        let policy = Policy::create(&namespace, "all", json!({"updateStrategy": {"onDelete": "Restore"}})).await?;
        Ok(Self { namespace, web, policy })
    }

    async fn is_done(&self, chart: &Chart) -> Result {
        let entry = chart.controller.wait_status(&self.policy, &self.web, "Applied").await?;
        ensure!(entry.method.as_deref() == Some("Resize"), "{entry:?}");
        ensure_is_resized(&self.web, &entry).await?;
        chart.controller.wait_event(&self.namespace, "web", "ResizeApplied").await.map(drop)
    }

    async fn is_put_back(&self) -> Result {
        self.policy.wait_gone().await?;
        self.web.pods().await?.iter().try_for_each(|pod| ensure_resized(pod, "app", &pair("100m", "64Mi")))
    }
}

/// A workload of each kind, whose templates are changed.
struct Rolled {
    namespace: Namespace,
    workloads: [Workload; 3],
    before: Vec<Value>,
    policy: Policy,
}

impl Rolled {
    async fn create(chart: &Chart) -> Result<Self> {
        let namespace = chart.cluster.namespace("golden-rollout").await?;
        let workloads = [
            namespace.deployment("web").container(starved()).create().await?,
            namespace.stateful_set("db").container(starved()).create().await?,
            namespace.daemon_set("agent").container(starved()).create().await?,
        ];
        let mut before = Vec::new();
        for workload in &workloads {
            workload.wait_ready(SOON).await?;
            before.push(workload.template().await?);
        }
        let mut spec = recreate_only();
        spec["updateStrategy"]["onDelete"] = "Restore".into();
        let policy = Policy::create(&namespace, "all", spec).await?;
        Ok(Self { namespace, workloads, before, policy })
    }

    async fn is_done(&self, chart: &Chart) -> Result {
        for workload in &self.workloads {
            let entry = chart.controller.wait_status(&self.policy, workload, "Applied").await?;
            ensure!(entry.method.as_deref() == Some("Rollout"), "{entry:?}");
            workload.wait_ready(SOON).await?;
            ensure_is_resized(workload, &entry).await?;
            chart.controller.wait_event(&self.namespace, &workload.name, "RolloutApplied").await?;
        }
        Ok(())
    }

    async fn is_put_back(&self) -> Result {
        self.policy.wait_gone().await?;
        for (workload, before) in self.workloads.iter().zip(&self.before) {
            ensure!(workload.template().await? == *before, "{} is not as it was", workload.name);
        }
        Ok(())
    }
}

pub(super) async fn leads(chart: &Chart) -> Result {
    let leases: Api<Lease> = Api::namespaced(chart.cluster.client(), NAMESPACE);
    let holder = leases.get("optipod-controller").await?.spec.and_then(|spec| spec.holder_identity);
    let holder = holder.context("nobody leads")?;
    ensure!(holder.starts_with(chart.controller.name()), "{holder} leads");
    Ok(())
}

/// What a brake holds.
pub(super) struct Held<'a> {
    pub namespace: &'a Namespace,
    pub web: &'a Workload,
    pub policy: &'a Policy,
}

/// Holds this namespace, and no other, until that has been told so many times.
pub(super) async fn brake(chart: &Chart, held: &Held<'_>, told: i32) -> Result {
    let maps: Api<ConfigMap> = Api::namespaced(chart.cluster.client(), NAMESPACE);
    let data = json!({"reason": "incident 42", "namespaces": held.namespace.name()});
    let brake = serde_json::from_value(json!({"metadata": {"name": "optipod-brake"}, "data": data}))?;
    maps.create(&PostParams::default(), &brake).await?;
    let controller = &chart.controller;
    controller.wait_status(held.policy, held.web, "Skipped BrakeOn").await?;
    let heard = controller.wait_for(format!("BrakeOn, told {told} times"), || async {
        let all = events(held.namespace, &held.policy.name, "BrakeOn").await?;
        let first = all.first().context("no such event")?;
        let times = first.series.as_ref().map_or(1, |series| series.count);
        ensure!(times >= told, "{times}");
        Ok(())
    });
    heard.await?;
    maps.delete("optipod-brake", &DeleteParams::default()).await?;
    let goes_on = controller.wait_for("the brake to be off", || async {
        let entry = held.policy.entry(held.web).await?;
        ensure!(entry.reason.as_deref() != Some("BrakeOn"), "{entry:?}");
        Ok(())
    });
    goes_on.await
}
