//! How long an answer takes: printed, never judged.

use super::super::harness::Result;
use super::data;
use super::programs::{self, Kind};
use super::{provider, query};
use optipod::provider::{PrometheusOptions, UsageProvider as _};
use std::time::{Duration, Instant};

const HOUR: Duration = Duration::from_hours(1);
const MANY: usize = 5000;

pub async fn of_one_and_of_five_thousand_containers(kind: Kind) -> Result {
    let server = programs::start(kind, &data::large(MANY), &[])?;
    let asking = provider(PrometheusOptions::new(server.program.url()))?;
    for count in [1, MANY] {
        let asked: Vec<_> = (0..count).map(|n| query("large", &format!("StatefulSet/web-{n}"), "app", HOUR)).collect();
        let start = Instant::now();
        let answers = asking.usage(&asked).await?;
        println!("{}: {count} containers over an hour: {} ms", kind.name(), start.elapsed().as_millis());
        assert!(answers.iter().all(|usage| usage.as_ref().is_some_and(|usage| usage.cpu.samples >= 50)));
    }
    Ok(())
}
