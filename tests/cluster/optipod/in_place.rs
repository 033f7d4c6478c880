//! Mode Auto, where pods can be resized in place.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use kube::api::{Patch, PatchParams};
use optipod::policy::types::WorkloadStatus;
use serde_json::{Value, json};

use super::containers;
use super::history::{self, Used};
use super::look::{Requests, Untouched, ensure_resized, limits, pair, untouched};
use super::policy::Policy;
use super::{Once, SOON, once, shared};
use crate::harness::{Cluster, Container, Kind, Namespace, Result, Workload};

/// A namespace whose Deployments have used 100m and 64Mi for longer than a window.
pub const LONG_KNOWN: &str = "long-known";

/// Decreases need a window that is covered; the shortest window is five minutes.
pub fn seed_history(data: &Path) -> Result {
    let used =
        |workload| Used { namespace: LONG_KNOWN, workload, container: "app", cores: 0.1, bytes: f64::from(64 << 20) };
    let mut all = vec![used("web"), used("gone")];
    all.extend(containers::used_by_sidecars());
    history::write(data, Duration::from_mins(40), &all)
}

/// Asks for half of what it uses.
pub fn starved() -> Container {
    Container::new("app").requests("100m", "64Mi").limits("1", "512Mi").usage("200m", "100Mi")
}

/// Asks for what a safety factor of 1.5 gives it, and has no limits.
pub fn content() -> Container {
    Container::new("sidecar").requests("60m", "48Mi").usage("40m", "32Mi")
}

/// A Deployment that was resized, with what was there before. Tests only read it.
pub struct Resized {
    pub namespace: Namespace,
    pub web: Workload,
    /// A Deployment of the same policy with the annotation `optipod.io/hold`.
    pub held: Workload,
    pub policy: Policy,
    before: Untouched,
    entry: WorkloadStatus,
}

pub async fn resized(cluster: &'static Cluster) -> Result<&'static Resized> {
    static RESIZED: Once<Resized> = Once::const_new();
    Box::pin(once(&RESIZED, resize(cluster))).await
}

async fn resize(cluster: &Cluster) -> Result<Resized> {
    let optipod = shared(cluster).await?;
    let namespace = cluster.namespace("in-place").await?;
    let web = namespace.deployment("web").replicas(2).container(starved()).container(content()).create().await?;
    let held = namespace.deployment("held").container(starved()).create().await?;
    hold(&held).await?;
    web.wait_ready(SOON).await?;
    optipod.wait_usage(&web, "app", 8).await?;
    optipod.wait_usage(&held, "app", 8).await?;
    let before = untouched(&namespace, &web).await?;

    let policy = Policy::create(&namespace, "all", json!({})).await?;
    let entry = optipod.wait_status(&policy, &web, "Applied").await?;
    Ok(Resized { namespace, web, held, policy, before, entry })
}

/// Annotates a workload as people do who want it left alone.
async fn hold(workload: &Workload) -> Result {
    let patch = Patch::Merge(json!({"metadata": {"annotations": {"optipod.io/hold": "until friday"}}}));
    workload.api().patch(&workload.name, &PatchParams::default(), &patch).await?;
    Ok(())
}

pub async fn pods_are_resized_and_nothing_else_is_touched(cluster: &'static Cluster) -> Result {
    let Resized { namespace, web, before, entry, .. } = resized(cluster).await?;

    let wanted = target(entry, "app")?;
    let (cpu, memory) = numbers(&wanted)?;
    assert!((285..=315).contains(&cpu), "1.5 times 200m, not {wanted:?}");
    assert_eq!(memory, 150, "1.5 times 100Mi, not {wanted:?}");
    for pod in web.pods().await? {
        ensure_resized(&pod, "app", &wanted)?;
        ensure_resized(&pod, "sidecar", &pair("60m", "48Mi"))?;
        assert_eq!(limits(&pod, "app")?, pair("1", "512Mi"));
        assert_eq!(limits(&pod, "sidecar")?, BTreeMap::new());
    }
    assert_eq!(&untouched(namespace, web).await?, before);
    Ok(())
}

pub async fn the_status_says_what_was_done_and_why(cluster: &'static Cluster) -> Result {
    let Resized { policy, entry, held, .. } = resized(cluster).await?;

    assert_eq!(entry.method.as_deref(), Some("Resize"));
    assert_eq!(entry.reason.as_deref(), Some("AlreadySized"), "{:?}", entry.message);
    assert_eq!(entry.target.iter().map(|size| &*size.container).collect::<Vec<_>>(), ["app"]);
    let previous = entry.previous.first().context("no previous requests")?;
    assert_eq!((previous.cpu.as_deref(), previous.memory.as_deref()), (Some("100m"), Some("64Mi")));
    assert!(entry.last_applied.is_some() && entry.last_recommendation.is_some(), "{entry:?}");
    for (container, memory) in [("app", "memory 150Mi = P90 100Mi × 1.5"), ("sidecar", "memory 48Mi = P90 32Mi × 1.5")]
    {
        let mut all = entry.recommendations.iter();
        let found = all.find(|r| r.container == container).context("no recommendation")?;
        let explanation = found.explanation.as_deref().unwrap_or_default();
        assert!(explanation.contains(memory) && explanation.contains("samples"), "{explanation}");
    }
    let held = policy.entry(held).await?;
    assert_eq!(held.reason.as_deref(), Some("HeldByAnnotation"));
    assert_eq!(held.recommendations.len(), 1, "a held workload has a recommendation all the same");
    for (condition, said) in
        [("Ready", "True PolicyValid"), ("MetricsAvailable", "True UsageFound"), ("Applying", "True AutoMode")]
    {
        assert_eq!(policy.condition(condition).await?, said);
    }
    let summary = policy.status().await?.summary.context("no summary")?;
    assert_eq!((summary.workloads, summary.updated, summary.skipped, summary.pending), (2, 1, 1, 0));
    Ok(())
}

pub async fn an_event_on_the_workload_tells_of_the_resize(cluster: &'static Cluster) -> Result {
    let optipod = shared(cluster).await?;
    let Resized { namespace, web, policy, .. } = resized(cluster).await?;

    let event = optipod.wait_event(namespace, &web.name, "ResizeApplied").await?;

    assert_eq!(event.type_.as_deref(), Some("Normal"));
    assert_eq!(event.action.as_deref(), Some("Resize"));
    let note = event.note.unwrap_or_default();
    assert!(note.contains(&policy.full_name()), "{note}");
    let instance = event.reporting_instance.unwrap_or_default();
    assert!(instance.starts_with(optipod.name()), "{instance}");
    Ok(())
}

pub async fn all_eight_metrics_speak_of_the_policy(cluster: &'static Cluster) -> Result {
    let optipod = shared(cluster).await?;
    let Resized { namespace, policy, .. } = resized(cluster).await?;
    let broken = json!({"metricsConfig": {"provider": "nowhere"}, "selector": {"workloadSelector": {"matchLabels": {"app": "none"}}}});
    let broken = Policy::create(namespace, "broken", broken).await?;
    optipod.wait_cycles(&broken, 1).await?;

    let (short, full) = (format!("namespace=\"{}\",policy=\"all\"", namespace.name()), policy.full_name());
    for (series, least, most) in [
        (format!("optipod_workloads_monitored{{{short}}}"), 2.0, 2.0),
        (format!("optipod_workloads_updated{{{short}}}"), 1.0, 1.0),
        (format!("optipod_workloads_skipped{{{short},reason=\"HeldByAnnotation\"}}"), 1.0, 1.0),
        (format!("optipod_reconciliation_duration_seconds_count{{policy=\"{full}\"}}"), 1.0, f64::MAX),
        ("optipod_metrics_collection_duration_seconds_count{provider=\"metrics-server\"}".to_owned(), 1.0, f64::MAX),
        (
            format!(
                "optipod_reconciliation_errors_total{{error_type=\"MetricsUnavailable\",policy=\"{}\"}}",
                broken.full_name()
            ),
            1.0,
            f64::MAX,
        ),
        (format!("optipod_recommendations_total{{policy=\"{full}\"}}"), 3.0, f64::MAX),
        // Two pods, two batches.
        (format!("optipod_applications_total{{method=\"Resize\",policy=\"{full}\"}}"), 2.0, 2.0),
    ] {
        let value = optipod.metric(&series).await?.with_context(|| format!("{series} is missing"))?;
        ensure!((least..=most).contains(&value), "{series} is {value}");
    }
    Ok(())
}

pub async fn a_pod_that_comes_later_gets_the_size_too(cluster: &'static Cluster) -> Result {
    let optipod = shared(cluster).await?;
    let namespace = cluster.namespace("later").await?;
    let web = namespace.deployment("web").container(starved()).create().await?;
    optipod.wait_usage(&web, "app", 8).await?;
    let policy = Policy::create(&namespace, "all", json!({})).await?;
    let wanted = target(&optipod.wait_status(&policy, &web, "Applied").await?, "app")?;
    let template = web.template().await?;

    let three = Patch::Merge(json!({"spec": {"replicas": 3}}));
    web.api().patch(&web.name, &PatchParams::default(), &three).await?;

    let all_resized = || async {
        let pods = web.pods().await?;
        ensure!(pods.len() == 3, "{} pods", pods.len());
        pods.iter().try_for_each(|pod| ensure_resized(pod, "app", &wanted))
    };
    optipod.wait_for("three pods of the decided size", all_resized).await?;
    assert_eq!(web.template().await?, template);
    Ok(())
}

pub async fn a_request_is_lowered_by_at_most_half_when_the_window_is_covered(cluster: &'static Cluster) -> Result {
    let optipod = shared(cluster).await?;
    let namespace = Namespace::create(cluster.client(), LONG_KNOWN).await?;
    let app = Container::new("app").requests("400m", "512Mi").limits("1", "1Gi").usage("100m", "64Mi");
    let web = namespace.deployment("web").container(app).create().await?;
    web.wait_ready(SOON).await?;

    let policy = Policy::create(&namespace, "all", json!({})).await?;

    let entry = optipod.wait_status(&policy, &web, "Applied").await?;
    let (cpu, memory) = numbers(&recommended(&entry, "app")?)?;
    assert!((142..=158).contains(&cpu) && memory == 96, "{cpu}m and {memory}Mi are recommended");
    let pod = web.pods().await?.into_iter().next().context("no pod")?;
    ensure_resized(&pod, "app", &pair("200m", "256Mi"))?;
    assert_eq!(limits(&pod, "app")?, pair("1", "1Gi"));
    // The rest of the way follows after the cooldown, and until then nothing does.
    let message = entry.message.unwrap_or_default();
    assert_eq!(entry.reason.as_deref(), Some("Cooldown"), "{message}");
    Ok(())
}

pub async fn a_request_is_not_lowered_before_the_window_is_covered(cluster: &'static Cluster) -> Result {
    let optipod = shared(cluster).await?;
    let namespace = cluster.namespace("uncovered").await?;
    let app = Container::new("app").requests("400m", "512Mi").usage("100m", "64Mi");
    let web = namespace.deployment("web").container(app).create().await?;
    optipod.wait_usage(&web, "app", 8).await?;
    let hour = json!({"metricsConfig": {"rollingWindow": "1h"}});

    let policy = Policy::create(&namespace, "all", hour).await?;

    let entry = optipod.wait_status(&policy, &web, "Skipped WindowNotCovered").await?;
    assert_eq!(numbers(&recommended(&entry, "app")?)?.1, 96, "it is recommended all the same");
    let pod = web.pods().await?.into_iter().next().context("no pod")?;
    ensure_resized(&pod, "app", &pair("400m", "512Mi"))
}

pub async fn stateful_sets_and_daemon_sets_are_resized_too(cluster: &'static Cluster) -> Result {
    let optipod = shared(cluster).await?;
    let namespace = cluster.namespace("kinds").await?;
    let set = namespace.stateful_set("db").replicas(2).container(starved()).create().await?;
    let agents = namespace.daemon_set("agent").container(starved()).create().await?;
    let mut before = Vec::new();
    for workload in [&set, &agents] {
        workload.wait_ready(SOON).await?;
        optipod.wait_usage(workload, "app", 8).await?;
        before.push((untouched(&namespace, workload).await?, revision(workload).await?));
    }

    let policy = Policy::create(&namespace, "all", json!({})).await?;

    for (workload, before) in [&set, &agents].into_iter().zip(before) {
        let entry = optipod.wait_status(&policy, workload, "Applied").await?;
        ensure_is_resized(workload, &entry).await?;
        assert_eq!((untouched(&namespace, workload).await?, revision(workload).await?), before);
    }
    Ok(())
}

/// A StatefulSet's revision; a DaemonSet's generation as its controller saw it.
async fn revision(workload: &Workload) -> Result<Value> {
    let status = workload.get().await?.data["status"].clone();
    Ok(match workload.kind {
        Kind::StatefulSet => status["updateRevision"].clone(),
        _ => status["observedGeneration"].clone(),
    })
}

/// The size that the status says a container is brought to.
pub fn target(entry: &WorkloadStatus, container: &str) -> Result<Requests> {
    let found = entry.target.iter().find(|size| size.container == container);
    let found = found.with_context(|| format!("no target of {container} in {entry:?}"))?;
    Ok(pair(found.cpu.as_deref().unwrap_or_default(), found.memory.as_deref().unwrap_or_default()))
}

/// Fails unless every pod's `app` has the size that the status speaks of.
pub async fn ensure_is_resized(workload: &Workload, entry: &WorkloadStatus) -> Result {
    let wanted = target(entry, "app")?;
    ensure!(numbers(&wanted)?.1 == 150, "1.5 times 100Mi, not {wanted:?}");
    workload.pods().await?.iter().try_for_each(|pod| ensure_resized(pod, "app", &wanted))
}

/// What the status recommends for a container.
pub fn recommended(entry: &WorkloadStatus, container: &str) -> Result<Requests> {
    let found = entry.recommendations.iter().find(|one| one.container == container);
    let found = found.with_context(|| format!("no recommendation of {container} in {entry:?}"))?;
    Ok(pair(found.cpu.as_deref().unwrap_or_default(), found.memory.as_deref().unwrap_or_default()))
}

/// Millicores and mebibytes.
pub fn numbers(requests: &Requests) -> Result<(u64, u64)> {
    let read = |key: &str, unit: &str| {
        let text = requests.get(key).and_then(|text| text.strip_suffix(unit));
        text.and_then(|text| text.parse().ok()).with_context(|| format!("{key} of {requests:?} is not in {unit}"))
    };
    Ok((read("cpu", "m")?, read("memory", "Mi")?))
}
