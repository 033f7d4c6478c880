//! A day of usage, made from a seed, as a cluster's scrapers would have written it, and the exact truth about it.

use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;
use std::fmt::Write as _;

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

/// When the day begins: long ago, so that every program takes its times for past.
pub fn begin() -> i64 {
    "2025-06-01T00:00:00Z".parse::<Timestamp>().unwrap().as_second()
}

/// A moment after the day.
pub fn end() -> Timestamp {
    Timestamp::from_second(begin() + DAY).unwrap() + SignedDuration::from_secs(3)
}

/// A sample as it is written.
struct Sample {
    series: String,
    at: i64,
    value: f64,
}

/// What was written of one container of a workload, over all its pods.
#[derive(Default, Clone)]
pub struct Truth {
    /// Cores on average over each whole minute of each pod.
    pub cpu_minutes: Vec<f64>,
    /// Cores between two scrapes.
    pub cpu_scrapes: Vec<f64>,
    /// Bytes at each scrape: Unix seconds and value.
    pub memory: Vec<(i64, f64)>,
    /// What metrics-server would tell at each scrape of each pod but the first.
    pub scrapes: Vec<Scrape>,
}

/// What one pod's container used, as metrics-server tells it.
#[derive(Clone, Copy)]
pub struct Scrape {
    /// The pod's number.
    pub pod: u64,
    /// Unix seconds.
    pub at: i64,
    /// Cores since the scrape before.
    pub cores: f64,
    pub bytes: f64,
}

/// All that was written, by `namespace/Kind/name/container`.
#[derive(Default)]
pub struct Written {
    /// Seconds between scrapes.
    pub scrape: i64,
    samples: Vec<Sample>,
    pub truth: BTreeMap<String, Truth>,
}

/// SplitMix64 (Steele, Lea and Flood 2014).
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Nearly normal: the sum of twelve uniform numbers.
    pub fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }
}

/// A pod's life in seconds after the day's begin, and who owns it.
struct Pod<'a> {
    namespace: &'a str,
    workload: &'a str,
    name: String,
    owner: (&'a str, String),
    containers: &'a [&'a str],
    life: (i64, i64),
    more: &'a str,
}

/// The day of a cluster: namespace `shop` with kube-state-metrics, `plain` without, `multi` in two clusters.
pub fn day(seed: u64, scrape: i64) -> Written {
    let (mut random, mut written) = (Random(seed), Written { scrape, ..Written::default() });
    for namespace in ["shop", "plain"] {
        for pod in &pods(namespace) {
            written.pod(pod, 1.0, &mut random);
            if namespace == "shop" {
                written.owner(pod);
            }
        }
    }
    written.owners_of_owners();
    for (cluster, scale) in [("east", 1.0), ("west", 4.0)] {
        let kept = random.0;
        for replica in ["a", "b"] {
            let more = format!(",cluster=\"{cluster}\",prometheus_replica=\"{replica}\"");
            let owner = ("StatefulSet", "db".to_owned());
            let pod = Pod {
                namespace: "multi",
                workload: "StatefulSet/db",
                name: "db-0".into(),
                owner,
                containers: &["db"],
                life: (0, DAY),
                more: &more,
            };
            random.0 = kept; // both scrapers see the same
            written.truth.remove("multi/StatefulSet/db/db");
            written.pod(&pod, scale, &mut random);
        }
        let of_cluster = written.truth.remove("multi/StatefulSet/db/db").unwrap();
        written.truth.insert(format!("{cluster}/StatefulSet/db/db"), of_cluster);
    }
    written
}

fn pods(namespace: &str) -> Vec<Pod<'_>> {
    let mut pods = Vec::new();
    let mut add = |workload, name: String, owner, containers, life| {
        pods.push(Pod { namespace, workload, name, owner, containers, life, more: "" });
    };
    for (hash, life) in [("7c9d8b6f5", (0, 12 * HOUR)), ("6d4cf56db6", (12 * HOUR, DAY))] {
        for random in ["x2x45", "bcdfg", "zz9zz"] {
            let owner = ("ReplicaSet", format!("web-{hash}"));
            add("Deployment/web", format!("web-{hash}-{random}"), owner, &["app", "proxy"][..], life);
        }
    }
    for index in 0..2 {
        for life in [(0, 5 * HOUR), (6 * HOUR, DAY)] {
            add("StatefulSet/db", format!("db-{index}"), ("StatefulSet", "db".into()), &["db"], life);
        }
    }
    for random in ["q7q7q", "vwxz2"] {
        add("DaemonSet/agent", format!("agent-{random}"), ("DaemonSet", "agent".into()), &["agent"], (0, DAY));
    }
    for hour in (1..24).step_by(2) {
        let (job, life) = (format!("nightly-{}", 29_000_000 + hour), (hour * HOUR, hour * HOUR + 900));
        add("CronJob/nightly", format!("{job}-k8s4s"), ("Job", job), &["batch"], life);
    }
    add("Pod/bare", "bare".into(), ("<none>", "<none>".into()), &["main"], (0, DAY));
    pods
}

impl Written {
    /// A pod's containers, its own cgroup and its sandbox.
    fn pod(&mut self, pod: &Pod<'_>, scale: f64, random: &mut Random) {
        let offset = i64::try_from(random.next() % 15).unwrap();
        for container in pod.containers {
            self.container(pod, container, scale, offset, random);
        }
        for (container, value) in [("", 1e3), ("POD", 1e2)] {
            let labels =
                format!("namespace=\"{}\",pod=\"{}\",container=\"{container}\"{}", pod.namespace, pod.name, pod.more);
            for at in (pod.life.0 + offset..pod.life.1).step_by(600) {
                let cpu = format!("container_cpu_usage_seconds_total{{{labels}}}");
                self.samples.push(Sample { series: cpu, at: begin() + at, value: value * at as f64 });
                let memory = format!("container_memory_working_set_bytes{{{labels}}}");
                self.samples.push(Sample { series: memory, at: begin() + at, value: value * 1e12 });
            }
        }
    }

    fn container(&mut self, pod: &Pod<'_>, container: &str, scale: f64, offset: i64, random: &mut Random) {
        let labels =
            format!("namespace=\"{}\",pod=\"{}\",container=\"{container}\"{}", pod.namespace, pod.name, pod.more);
        let truth = self.truth.entry(format!("{}/{}/{container}", pod.namespace, pod.workload)).or_default();
        let (mut drift, mut counter, mut total) = (0.0, 0.0, 0.0);
        let pod_number = truth.scrapes.last().map_or(0, |scrape| scrape.pod + 1);
        let mut totals = Vec::new();
        for at in (pod.life.0 + offset..pod.life.1).step_by(usize::try_from(self.scrape).unwrap()) {
            drift = 0.98 * drift + 0.12 * random.normal();
            let burst = if random.unit() < 0.004 { 3.0 } else { 1.0 };
            let cores = scale * 0.2 * f64::exp(drift) * burst;
            let bytes = (scale * 2e8 * (1.0 + 0.3 * f64::tanh(drift)) * f64::sqrt(burst)).round();
            if !totals.is_empty() {
                counter += cores * self.scrape as f64;
                total += cores * self.scrape as f64;
                truth.cpu_scrapes.push(cores);
                truth.scrapes.push(Scrape { pod: pod_number, at: begin() + at, cores, bytes });
            }
            if at / self.scrape == 9 * HOUR / self.scrape {
                counter = 0.0; // the container restarts
            }
            totals.push((at, total));
            truth.memory.push((begin() + at, bytes));
            let (cpu, memory) = ("container_cpu_usage_seconds_total", "container_memory_working_set_bytes");
            self.samples.push(Sample { series: format!("{cpu}{{{labels}}}"), at: begin() + at, value: counter });
            self.samples.push(Sample { series: format!("{memory}{{{labels}}}"), at: begin() + at, value: bytes });
        }
        truth.cpu_minutes.extend(minutes(&totals));
    }

    /// kube-state-metrics about a pod, once a minute.
    fn owner(&mut self, pod: &Pod<'_>) {
        let (kind, name) = &pod.owner;
        let series = format!(
            "kube_pod_owner{{namespace=\"{}\",pod=\"{}\",owner_kind=\"{kind}\",owner_name=\"{name}\",owner_is_controller=\"true\"}}",
            pod.namespace, pod.name
        );
        self.objects(&series, pod.life);
    }

    fn owners_of_owners(&mut self) {
        let labels = "owner_kind=\"Deployment\",owner_name=\"web\",owner_is_controller=\"true\"";
        for (hash, life) in [("7c9d8b6f5", (0, 12 * HOUR)), ("6d4cf56db6", (12 * HOUR, DAY))] {
            self.objects(
                &format!("kube_replicaset_owner{{namespace=\"shop\",replicaset=\"web-{hash}\",{labels}}}"),
                life,
            );
        }
        let labels = "owner_kind=\"CronJob\",owner_name=\"nightly\",owner_is_controller=\"true\"";
        for hour in (1..24).step_by(2) {
            let job = 29_000_000 + hour;
            let series = format!("kube_job_owner{{namespace=\"shop\",job_name=\"nightly-{job}\",{labels}}}");
            self.objects(&series, (hour * HOUR, hour * HOUR + 900));
        }
    }

    fn objects(&mut self, series: &str, life: (i64, i64)) {
        let samples =
            (life.0..life.1).step_by(60).map(|at| Sample { series: series.into(), at: begin() + at, value: 1.0 });
        self.samples.extend(samples);
    }

    /// The samples as text, by series and time; times in units of `1 / per_second` seconds.
    pub fn text(&self, per_second: i64) -> String {
        let mut samples: Vec<&Sample> = self.samples.iter().collect();
        samples.sort_by(|a, b| (&a.series, a.at).cmp(&(&b.series, b.at)));
        let mut text = String::new();
        for Sample { series, at, value } in samples {
            writeln!(text, "{series} {value} {}", at * per_second).unwrap();
        }
        text
    }
}

/// The mean of each whole minute from running totals at scrapes, straight between them.
fn minutes(totals: &[(i64, f64)]) -> Vec<f64> {
    let at = |time: i64| {
        let right = totals.partition_point(|(at, _)| *at < time);
        let (t1, c1) = *totals.get(right)?;
        let Some((t0, c0)) = right.checked_sub(1).and_then(|left| totals.get(left)) else {
            return (t1 == time).then_some(c1);
        };
        Some(c0 + (c1 - c0) * (time - t0) as f64 / (t1 - t0) as f64)
    };
    let (first, last) = (totals[0].0, totals[totals.len() - 1].0);
    let whole = (first / 60..=last / 60).filter_map(|minute| Some((at(60 * (minute + 1))? - at(60 * minute)?) / 60.0));
    whole.collect()
}

/// `count` containers of as many pods, an hour, once a minute: for how long an answer takes.
pub fn large(count: usize) -> Written {
    let (mut random, mut written) = (Random(7), Written::default());
    for n in 0..count {
        let (mut counter, level) = (0.0, 0.1 + random.unit());
        let labels = format!("namespace=\"large\",pod=\"web-{n}-0\",container=\"app\"");
        for at in (DAY - HOUR..=DAY).step_by(60) {
            counter += 60.0 * level * random.unit();
            let at = begin() + at;
            let cpu = format!("container_cpu_usage_seconds_total{{{labels}}}");
            written.samples.push(Sample { series: cpu, at, value: counter });
            let memory = format!("container_memory_working_set_bytes{{{labels}}}");
            written.samples.push(Sample { series: memory, at, value: (1e8 * level).round() });
        }
    }
    written
}

/// The exact quantile: the smallest value that a share `q` of all does not exceed.
pub fn exact(values: &[f64], q: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // within 0..=len
    let rank = (q * sorted.len() as f64).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}
