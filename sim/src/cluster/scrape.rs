//! Scrapes: from what containers used to what `metrics.k8s.io` publishes and the ledger records.
//!
//! What it may not know: behaviours and objects.
//! Invariant: what is published and what is recorded are the same numbers; a pod is published only
//! when all its containers have run through a whole window.

use std::time::Duration;

use super::kubelet::{ContainerRun, PodRun};
use super::objects::Plane;
use super::{Cluster, MARK_EVERY, Moment};
use crate::api::metrics::{ContainerUsage, PodPoint};
use crate::truth::ClusterTotals;

impl Cluster {
    /// Scrapes all pods when the next scrape is due.
    pub(crate) fn scrape_when_due(&mut self, plane: &mut Plane<'_>, moment: &Moment<'_>) {
        if moment.now < self.next_scrape {
            return;
        }
        let window = moment.now - self.last_scrape;
        self.next_scrape = moment.now + moment.options.scrape_every.as_secs_f64();
        self.last_scrape = moment.now;
        let mut totals = ClusterTotals::default();
        for run in self.pods.values_mut().filter(|run| run.started) {
            scrape(run, plane, moment, window, &mut totals);
        }
        moment.truth.record_totals(plane.now, totals);
        if moment.now >= self.next_mark {
            self.next_mark = moment.now + MARK_EVERY;
            moment.truth.mark(plane.now);
        }
    }
}

fn scrape(run: &mut PodRun, plane: &mut Plane<'_>, moment: &Moment<'_>, window: f64, totals: &mut ClusterTotals) {
    totals.pods += 1;
    let complete = window > 0.0 && run.containers.iter().all(|c| c.is_running() && c.scraped);
    let usages: Vec<ContainerUsage> = run.containers.iter().map(|container| usage(container, window)).collect();
    for (container, usage) in run.containers.iter_mut().zip(&usages) {
        let (cores, bytes) = (usage.cpu_nanos as f64 / 1e9, usage.memory_kib as f64 * 1024.0);
        if complete {
            moment.truth.record(container.row, plane.now, cores, bytes);
        }
        totals.requested_cpu += container.cpu_request;
        totals.requested_memory += container.memory_request;
        totals.used_cpu += cores;
        totals.used_memory += bytes;
        moment.truth.record_cpu_time(container.row, container.wanted, container.used);
        container.wanted = 0.0;
        container.used = 0.0;
        container.scraped = container.is_running();
    }
    if complete {
        plane.state.metrics.publish(PodPoint {
            namespace: run.key.namespace.clone(),
            name: run.key.name.clone(),
            timestamp: plane.now,
            window: Duration::from_secs_f64(window),
            containers: usages,
        });
    } else {
        plane.state.metrics.retract(&run.key.namespace, &run.key.name);
    }
}

// Usage is finite and not negative; nanocores and KiB of any real machine fit in 64 bits.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn usage(container: &ContainerRun, window: f64) -> ContainerUsage {
    let cores = if window > 0.0 { container.used / window } else { 0.0 };
    ContainerUsage {
        name: container.name.clone(),
        cpu_nanos: (cores * 1e9).round() as u64,
        memory_kib: (container.memory / 1024.0).round() as u64,
    }
}
