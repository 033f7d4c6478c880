//! Real programs' answers against the exact truth about what was written.

use super::super::harness::Result;
use super::data::{Truth, end, exact};
use super::programs::{Kind, Shared, serving, shared};
use super::{provider, query, series};
use anyhow::Context as _;
use jiff::SignedDuration;
use optipod::provider::{PrometheusOptions, UsageProvider as _};
use optipod::usage::{ResourceUsage, WindowUsage};
use std::collections::BTreeSet;
use std::time::Duration;

const DAY: Duration = Duration::from_hours(24);

/// What lives all day, so that its edges do not matter.
const ALL_DAY: [(&str, &str); 5] = [
    ("Deployment/web", "app"),
    ("Deployment/web", "proxy"),
    ("StatefulSet/db", "db"),
    ("DaemonSet/agent", "agent"),
    ("Pod/bare", "main"),
];

async fn ask(
    shared: &Shared,
    namespace: &str,
    asked: &[(&str, &str)],
    window: Duration,
) -> Result<Vec<Option<WindowUsage>>> {
    let queries: Vec<_> =
        asked.iter().map(|(workload, container)| query(namespace, workload, container, window)).collect();
    Ok(provider(PrometheusOptions::new(&shared.url))?.usage(&queries).await?)
}

fn truth<'a>(shared: &'a Shared, namespace: &str, (workload, container): (&str, &str)) -> &'a Truth {
    &shared.written.truth[&format!("{namespace}/{workload}/{container}")]
}

/// Relative errors of p50, p90 and p99.
fn errors(got: &ResourceUsage, values: &[f64]) -> [f64; 3] {
    [(got.p50, 0.5), (got.p90, 0.9), (got.p99, 0.99)].map(|(got, q)| (got / exact(values, q) - 1.0).abs())
}

fn print(kind: Kind, what: &str, errors: &[[f64; 3]]) {
    let of = |n: usize| errors.iter().map(|e| 100.0 * e[n]).collect::<Vec<_>>();
    let figures = ["p50", "p90", "p99"].iter().enumerate().map(|(n, name)| {
        let (worst, mean) = (of(n).into_iter().fold(0.0, f64::max), of(n).iter().sum::<f64>() / errors.len() as f64);
        format!("{name} worst {worst:.2} % mean {mean:.2} %")
    });
    println!("{}: {what}: {}", kind.name(), figures.collect::<Vec<_>>().join(", "));
}

pub async fn percentiles_agree_with_what_was_written(kind: Kind) -> Result {
    agree(kind, &*shared(kind)?).await
}

pub async fn percentiles_agree_where_scrapes_are_a_minute_apart(kind: Kind) -> Result {
    agree(kind, &serving(kind, 60)?).await
}

async fn agree(kind: Kind, shared: &Shared) -> Result {
    println!("{}: a scrape each {} s", kind.name(), shared.written.scrape);
    let (mut cpu, mut cpu_scrapes, mut memory) = (Vec::new(), Vec::new(), Vec::new());
    for namespace in ["shop", "plain"] {
        let answers = ask(shared, namespace, &ALL_DAY, DAY).await?;
        for (asked, usage) in ALL_DAY.into_iter().zip(answers) {
            let (truth, usage) = (truth(shared, namespace, asked), usage.context("no usage")?);
            let bytes: Vec<f64> = truth.memory.iter().map(|(_, bytes)| *bytes).collect();
            cpu.push(errors(&usage.cpu, &truth.cpu_minutes));
            cpu_scrapes.push(errors(&usage.cpu, &truth.cpu_scrapes));
            memory.push(errors(&usage.memory, &bytes));
            let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
            assert!((usage.cpu.mean / mean(&truth.cpu_minutes) - 1.0).abs() < 0.02, "{asked:?}: {}", usage.cpu.mean);
            assert!((usage.memory.mean / mean(&bytes) - 1.0).abs() < 0.02, "{asked:?}: {}", usage.memory.mean);
            assert_eq!(usage.memory.peak.to_bits(), exact(&bytes, 1.0).to_bits(), "{asked:?}: the peak is kept");
        }
    }
    print(kind, "CPU against minutes", &cpu);
    print(kind, "CPU against scrapes", &cpu_scrapes);
    print(kind, "memory against scrapes", &memory);
    for errors in cpu.iter().chain(&memory) {
        assert!(errors[0] < 0.03 && errors[1] < 0.03 && errors[2] < 0.06, "{errors:?}");
    }
    Ok(())
}

pub async fn pods_that_are_gone_count_and_the_answer_says_how_they_were_told(kind: Kind) -> Result {
    let shared = shared(kind)?;
    for namespace in ["shop", "plain"] {
        let asked = [("Deployment/web", "app"), ("CronJob/nightly", "batch")];
        let answers = ask(&shared, namespace, &asked, DAY).await?;
        for (asked, (usage, minutes)) in asked.into_iter().zip(answers.into_iter().zip([3 * 1440, 12 * 15])) {
            let usage = usage.context("no usage")?;
            let off = usage.memory.samples.abs_diff(minutes);
            assert!(off <= minutes / 20, "{namespace} {asked:?}: {} of {minutes}", usage.memory.samples);
            let is_said = usage.notes.iter().any(|note| note.contains("told by their names"));
            assert_eq!(is_said, namespace == "plain", "{:?}", usage.notes);
        }
    }
    Ok(())
}

pub async fn a_gap_is_not_covered_and_what_was_never_written_is_not_known(kind: Kind) -> Result {
    let shared = shared(kind)?;
    let asked = [("StatefulSet/db", "db"), ("Pod/bare", "main"), ("StatefulSet/db", "proxy"), ("Deployment/db", "db")];
    let answers = ask(&shared, "shop", &asked, DAY).await?;
    let covered: Vec<_> =
        answers.iter().map(|usage| usage.as_ref().map(|usage| usage.covered.as_secs() / 60)).collect();
    let is_near = |covered: Option<u64>, minutes: u64| covered.is_some_and(|covered| covered.abs_diff(minutes) <= 3);
    assert!(is_near(covered[0], 23 * 60) && is_near(covered[1], 24 * 60), "{covered:?}");
    assert_eq!(covered[2..], [None, None]);
    assert_eq!(ask(&shared, "nowhere", &asked[..1], DAY).await?, [None]);
    Ok(())
}

pub async fn a_matcher_chooses_the_cluster_and_two_scrapers_count_once(kind: Kind) -> Result {
    let shared = shared(kind)?;
    for cluster in ["east", "west"] {
        let options = PrometheusOptions {
            matchers: vec![format!("cluster=\"{cluster}\"").parse()?],
            ..PrometheusOptions::new(&shared.url)
        };
        let usage = provider(options)?.usage(&[query("multi", "StatefulSet/db", "db", DAY)]).await?.remove(0);
        let (usage, truth) = (usage.context("no usage")?, truth(&shared, cluster, ("StatefulSet/db", "db")));
        assert!(usage.cpu.samples.abs_diff(1440) <= 2, "{cluster}: {}", usage.cpu.samples);
        let errors = errors(&usage.cpu, &truth.cpu_minutes);
        assert!(errors.iter().all(|error| *error < 0.06), "{cluster}: {errors:?}");
    }
    Ok(())
}

pub async fn the_history_is_what_was_written(kind: Kind) -> Result {
    let shared = shared(kind)?;
    let asking = provider(PrometheusOptions::new(&shared.url))?;
    let from = end() - SignedDuration::from_secs(3 + 6 * 3600);
    let known = ["Deployment/web", "StatefulSet/db", "DaemonSet/agent"];
    let known: BTreeSet<_> = known.iter().map(|workload| series("plain", workload, "").workload).collect();
    let history = asking.history("plain", &known, from, from + SignedDuration::from_hours(1)).await?;
    assert_eq!(history.unknown.iter().filter(|pod| !pod.starts_with("nightly-")).collect::<Vec<_>>(), ["bare"]);
    assert_eq!((history.pods.len(), history.missing), (3 * 2 + 2 + 2, None));
    for pod in &history.pods {
        assert!(history.by_name.contains(&pod.pod));
        assert_eq!(pod.points.len(), 60, "{pod:?}");
        let key = &pod.series;
        let truth = truth(&shared, "plain", (&format!("{}/{}", key.workload.kind, key.workload.name), &key.container));
        for point in &pod.points {
            let at = point.at.as_second();
            let recent = truth.memory.iter().filter(|(written, _)| (at - shared.written.scrape..=at).contains(written));
            assert!(recent.map(|(_, bytes)| bytes.to_bits()).any(|bits| bits == point.memory.to_bits()), "{point:?}");
            assert!(point.cpu.is_finite() && point.cpu > 0.0);
        }
    }
    let shop = asking.history("shop", &BTreeSet::new(), from, from + SignedDuration::from_hours(1)).await?;
    assert_eq!((shop.unknown.len(), shop.by_name.len()), (0, 0), "kube-state-metrics knows all: {:?}", shop.unknown);
    assert!(shop.pods.iter().any(|pod| pod.series == series("shop", "Pod/bare", "main")));
    Ok(())
}

pub async fn a_month_is_asked_in_slices(kind: Kind) -> Result {
    let shared = shared(kind)?;
    let answers = ask(&shared, "shop", &ALL_DAY, 30 * DAY).await?;
    let mut all = Vec::new();
    for (asked, usage) in ALL_DAY.into_iter().zip(answers) {
        let (truth, usage) = (truth(&shared, "shop", asked), usage.context("no usage")?);
        assert!(usage.covered >= DAY.mul_f64(0.95) && usage.covered <= DAY.mul_f64(1.02), "{:?}", usage.covered);
        let bytes: Vec<f64> = truth.memory.iter().map(|(_, bytes)| *bytes).collect();
        assert_eq!(usage.memory.peak.to_bits(), exact(&bytes, 1.0).to_bits(), "{asked:?}: the peak is kept");
        all.push(errors(&usage.memory, &bytes));
    }
    print(kind, "memory over a month, in steps of 4 minutes", &all);
    assert!(all.iter().all(|errors| errors[0] < 0.05 && errors[1] < 0.05), "{all:?}");
    Ok(())
}
