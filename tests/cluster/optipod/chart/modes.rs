//! The modes that need less: their accounts' rights are what they use, and differ from those of mode `full` as documented.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::SystemTime;

use anyhow::ensure;
use optipod::proto::{BatchGetUsageRequest, BatchGetUsageResponse, Distribution, Usage};
use serde_json::json;
use tonic::Status;

use super::super::in_place::{numbers, recommended, starved};
use super::super::look::versions;
use super::super::policy::Policy;
use super::super::{SOON, repository};
use super::Chart;
use super::golden::{DOCUMENT, Held, brake, leads, main_job, used_as_granted};
use crate::harness::{Cluster, Result};
use crate::usage_double::{Answers, all};

pub async fn recommendations_alone_need_no_right_to_change_a_workload(_: &'static Cluster) -> Result {
    let chart = Chart::start("recommend-only").await?;
    let job = only_recommends(&chart).await;
    is_documented("recommend-only", &used_as_granted(&chart, job).await?)
}

pub async fn with_usage_from_elsewhere_the_controller_alone_does_the_main_job(_: &'static Cluster) -> Result {
    let chart = Chart::start("external-prometheus").await?;
    let job = main_job(&chart).await;
    is_documented("external-prometheus", &used_as_granted(&chart, job).await?)
}

/// What a policy in mode Auto would do is in its status, and nothing is done. Brakes are told all the same.
async fn only_recommends(chart: &Chart) -> Result {
    let namespace = chart.cluster.namespace("golden-recommend").await?;
    let mut workloads = Vec::new();
    for workload in [namespace.deployment("web"), namespace.stateful_set("db"), namespace.daemon_set("agent")] {
        let workload = workload.container(starved()).create().await?;
        workload.wait_ready(SOON).await?;
        workloads.push((versions(&workload).await?, workload));
    }
    let may_roll = json!({"updateStrategy": {"allowRecreate": true}});
    let policy = Policy::create(&namespace, "all", may_roll).await?;
    for (_, workload) in &workloads {
        let published = chart.controller.wait_for("a recommendation", || async {
            let entry = policy.entry(workload).await?;
            let (_, memory) = numbers(&recommended(&entry, "app")?)?;
            ensure!(memory == 150, "1.5 times 100Mi, not {memory}Mi");
            Ok(entry.reason)
        });
        let reason = published.await?;
        ensure!(reason.as_deref() == Some("DryRun"), "{reason:?}");
    }
    leads(chart).await?;
    let held = Held { namespace: &namespace, web: &workloads[0].1, policy: &policy };
    for told in 1..=2 {
        brake(chart, &held, told).await?;
    }
    for (before, workload) in &workloads {
        ensure!(versions(workload).await? == *before, "{} or a pod of it was changed", workload.name);
    }
    policy.delete().await?;
    policy.wait_gone().await
}

/// What `starved` uses, of every series and for as long as is asked.
pub(super) fn steady(request: BatchGetUsageRequest) -> std::result::Result<Answers, Status> {
    let always = |value: f64| {
        Some(Distribution {
            p50: value,
            p90: value,
            p99: value,
            peak: value,
            mean: value,
            samples: 100,
            ..Default::default()
        })
    };
    let window = request.window.ok_or_else(|| Status::invalid_argument("no window"))?;
    let now = SystemTime::now();
    let from = window.try_into().ok().and_then(|window| now.checked_sub(window));
    let from = from.ok_or_else(|| Status::invalid_argument("not a window"))?;
    let (cpu, memory) = (always(0.2), always(f64::from(100 << 20)));
    let (window, from, to) = (Some(window), Some(from.into()), Some(now.into()));
    let usage = Usage { window, from, to, covered: window, cpu, memory, ..Default::default() };
    let answer = |series| BatchGetUsageResponse { series: Some(series), usage: Some(usage.clone()) };
    Ok(all(request.series.into_iter().map(answer)))
}

/// The document says in what these rights differ from those of mode `full`, whose table it has too.
fn is_documented(mode: &str, table: &str) -> Result {
    let document = repository(DOCUMENT)?;
    let full = rows(&document);
    ensure!(full.len() > 20, "{DOCUMENT} has no table of rights");
    let here = rows(table);
    let mut text = format!("| account | where | resource | `full` | `{mode}` |\n|---|---|---|---|---|\n");
    for object in full.keys().chain(here.keys()).collect::<std::collections::BTreeSet<_>>() {
        let [there, here] = [&full, &here].map(|rows| rows.get(object).copied().unwrap_or("none"));
        if there != here {
            let _ = writeln!(text, "{object} | {there} | {here} |");
        }
    }
    ensure!(document.contains(&text), "{DOCUMENT} does not have what differs:\n{text}");
    Ok(())
}

/// Of tables of rights: the verbs by account, place and resource.
fn rows(text: &str) -> BTreeMap<&str, &str> {
    let head = "| account | where | resource | verbs |\n";
    let table = text.split_once(head).map(|(_, rest)| rest).unwrap_or_default();
    let lines = table.lines().skip(1).take_while(|line| line.starts_with('|'));
    lines.filter_map(|line| line.strip_suffix(" |")?.rsplit_once(" | ")).collect()
}
