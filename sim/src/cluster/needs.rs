//! Containers that cannot live on less than they need.
//!
//! What it may not know: who gave them too little.
//! Invariant: a container without a need, or with enough, never ends here.

use super::kubelet::ContainerRun;
use super::objects::Plane;
use super::{Cluster, Moment};

/// The least requests that a container lives on.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Need {
    /// Cores; with less it fails (`Error`).
    pub cpu: f64,
    /// Bytes; with less it is killed (`OOMKilled`).
    pub memory: f64,
}

/// Seconds that a container with too little runs before it ends.
const LASTS: f64 = 8.0;

impl Cluster {
    /// Ends what has less than it needs, again and again.
    pub(crate) fn starve(&mut self, plane: &Plane<'_>, moment: &Moment<'_>) {
        let needs: Vec<_> = self.needs.iter().map(|(series, need)| (moment.truth.row(series), *need)).collect();
        for run in self.pods.values_mut() {
            for container in run.containers.iter_mut().filter(|c| c.is_running() && c.uptime(moment.now) >= LASTS) {
                let need = needs.iter().find(|(row, _)| *row == container.row).map(|(_, need)| *need);
                if let Some((reason, code)) = need.and_then(|need| lack(container, need)) {
                    container.crash(moment.now, &plane.time(), reason, code);
                    run.status_due = true;
                }
            }
        }
    }
}

fn lack(container: &ContainerRun, need: Need) -> Option<(&'static str, i32)> {
    if container.memory_request < need.memory {
        return Some(("OOMKilled", 137));
    }
    (container.cpu_request < need.cpu).then_some(("Error", 1))
}
