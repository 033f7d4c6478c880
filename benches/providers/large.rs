//! Many containers over a day, as a cluster's scrapers would have written it: too much to hold, so that it goes into
//! Prometheus block by block.

use crate::harness::Result;
use crate::prometheus::data::{self, Random};
use crate::sources::stored;
use anyhow::ensure;
use optipod_storage::{PastSample, SeriesKey, Store};
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::process::Command;

/// Blocks of Prometheus are of two hours, on the even hour.
const BLOCK: i64 = 2 * 3600;
const DAY: i64 = 24 * 3600;
/// Seconds between the scrapes of kube-state-metrics.
const OWNERS: i64 = 60;

/// `count` Deployments `web-N` of one pod with one container `app` in the namespace `large`.
pub struct Large {
    pub count: usize,
    /// Seconds between scrapes.
    pub scrape: i64,
}

/// What a container does between blocks.
struct Container {
    random: Random,
    drift: f64,
    counter: f64,
}

impl Large {
    fn containers(&self) -> Vec<Container> {
        (0..self.count).map(|n| Container { random: Random(n as u64), drift: 0.0, counter: 0.0 }).collect()
    }

    /// Writes the day into the folder of a Prometheus that is not running.
    pub fn write(&self, folder: &Path) -> Result {
        let mut containers = self.containers();
        let input = folder.join("block.om");
        for block in 0..DAY / BLOCK {
            let begin = data::begin() + block * BLOCK;
            let mut out = BufWriter::with_capacity(1 << 20, File::create(&input)?);
            for (n, container) in containers.iter_mut().enumerate() {
                self.block(n, container, begin, &mut out)?;
            }
            out.write_all(b"# EOF\n")?;
            out.into_inner()?;
            let mut promtool = Command::new("promtool");
            promtool.args(["tsdb", "create-blocks-from", "openmetrics"]).arg(&input).arg(folder.join("data"));
            let output = promtool.output()?;
            ensure!(output.status.success(), "promtool: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(std::fs::remove_file(&input)?)
    }

    fn block(&self, n: usize, container: &mut Container, begin: i64, out: &mut impl std::io::Write) -> Result {
        let set = format!("web-{n}-6d4cf56db6");
        let pod = format!("namespace=\"large\",pod=\"{set}-x2x45\"");
        let labels =
            format!("{pod},container=\"app\",node=\"node-{}\",image=\"registry.example/team/app:1.2.3\"", n % 50);
        let mut memory = Vec::new();
        for at in (begin..begin + BLOCK).step_by(usize::try_from(self.scrape)?) {
            let (cores, bytes) = container.next();
            container.counter += cores * self.scrape as f64;
            writeln!(out, "container_cpu_usage_seconds_total{{{labels}}} {} {at}", container.counter)?;
            writeln!(memory, "container_memory_working_set_bytes{{{labels}}} {bytes} {at}")?;
        }
        out.write_all(&memory)?;
        let by_deployment = format!("owner_kind=\"Deployment\",owner_name=\"web-{n}\",owner_is_controller=\"true\"");
        let by_set = format!("owner_kind=\"ReplicaSet\",owner_name=\"{set}\",owner_is_controller=\"true\"");
        for series in [
            format!("kube_pod_owner{{{pod},{by_set}}}"),
            format!("kube_replicaset_owner{{namespace=\"large\",replicaset=\"{set}\",{by_deployment}}}"),
        ] {
            for at in (begin..begin + BLOCK).step_by(usize::try_from(OWNERS)?) {
                writeln!(out, "{series} 1 {at}")?;
            }
        }
        Ok(())
    }
}

impl Large {
    /// The same day into a store, from its beginning.
    pub fn fill(&self, store: &Store) -> Result {
        let mut containers = self.containers();
        let mut backfill = store.backfill(stored(data::end().as_second()));
        let slot = 300;
        for begin in (data::begin()..data::begin() + DAY).step_by(usize::try_from(slot)?) {
            for (n, container) in containers.iter_mut().enumerate() {
                let names = ["large", "Deployment", &format!("web-{n}"), "app"].map(str::to_owned);
                let [namespace, kind, workload, container_name] = names;
                let key = SeriesKey { namespace, kind, workload, container: container_name };
                for at in (begin..begin + slot).step_by(usize::try_from(self.scrape)?) {
                    let (cpu, memory) = container.next();
                    backfill.sample(PastSample { key: key.clone(), pod: 0, at: stored(at), cpu, memory })?;
                }
            }
        }
        backfill.finish()?;
        Ok(())
    }
}

impl Container {
    /// Cores since the scrape before, and bytes.
    fn next(&mut self) -> (f64, f64) {
        self.drift = 0.98 * self.drift + 0.12 * self.random.normal();
        (0.2 * f64::exp(self.drift), (2e8 * (1.0 + 0.3 * f64::tanh(self.drift))).round())
    }
}
