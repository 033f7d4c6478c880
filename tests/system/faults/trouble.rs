//! What goes wrong: how each disturbance begins and ends.

use super::play::Player;
use super::played::Impairment;
use super::plot::word;
use super::schedule::{Act, Disturbance};
use optipod_sim::{Deny, Fault, FaultRule};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

impl Player<'_> {
    pub(super) async fn begin(&mut self, index: usize) {
        let schedule = self.schedule;
        let api = self.stage.harness.api.clone();
        match &schedule.disturbances[index] {
            Disturbance::Requests { fault, verb, resource, percent, .. } => {
                #[allow(clippy::cast_precision_loss)] // at most a hundred
                let rule = FaultRule::new(fault.clone()).verb(verb).probability(*percent as f64 / 100.0);
                let rule = if resource.is_empty() { rule } else { rule.on(resource) };
                self.rules.insert(index, api.faults().add(rule));
            }
            Disturbance::Watches { fault, resource, .. } => {
                let rule = FaultRule::new(fault.clone()).verb("watch");
                let rule = if resource.is_empty() { rule } else { rule.on(resource) };
                self.rules.insert(index, api.faults().add(rule));
                api.faults().cut_watches();
            }
            Disturbance::Expire { .. } => {
                api.faults().expire_history();
                api.faults().cut_watches();
                self.count("Expire", 1);
            }
            Disturbance::Deny { resource, namespace, .. } => {
                api.deny(Deny::new("patch", resource).in_namespace(namespace));
                self.count("Deny", 1);
            }
            Disturbance::Silence { .. } => {
                self.stage.act(&Act::ProviderDown(true)).await;
                self.count("Silence", 1);
            }
            other => self.begin_of_process(&other.clone()).await,
        }
        self.impair(index);
    }

    async fn begin_of_process(&mut self, disturbance: &Disturbance) {
        self.count(&word(&format!("{disturbance:?}")), 1);
        match disturbance {
            Disturbance::Crash { slot, back_after, renamed, .. } => {
                let user = self.users[*slot].clone();
                self.ended(&user, *back_after);
                if *renamed {
                    self.users[*slot] = format!("{user}x");
                }
            }
            Disturbance::Restart { slot, .. } => {
                if let Some(process) = self.slots[*slot].take() {
                    process.stop().await;
                    self.back(*slot);
                }
            }
            Disturbance::Pause { slot, seconds, .. } => {
                if let Some(process) = &self.slots[*slot] {
                    process.gate.stand_still(Duration::from_secs(*seconds));
                }
            }
            Disturbance::Swap { then, first } => {
                self.bar(0, Instant::now());
                self.bar(1, Instant::now() + Duration::from_secs(then - first));
            }
            Disturbance::Jump { slot, by, .. } => {
                self.ahead[*slot] += by;
                self.furthest += by.abs();
                if let Some(process) = &self.slots[*slot] {
                    process.jump(*by);
                }
            }
            _ => {}
        }
    }

    /// From that moment on the process of this slot gets no answer about the lease, for longer than the lease lasts.
    fn bar(&self, slot: usize, from: Instant) {
        let (faults, user) = (self.stage.harness.api.faults(), self.users[slot].clone());
        tokio::spawn(async move {
            sleep_until(from).await;
            let rule = FaultRule::new(Fault::Status(503)).on("leases.coordination.k8s.io").user(&user);
            let rule = faults.add(rule);
            sleep_until(from + Duration::from_secs(50)).await;
            faults.remove(rule);
        });
    }

    pub(super) fn over(&mut self, index: usize) {
        let api = self.stage.harness.api.clone();
        match &self.schedule.disturbances[index] {
            Disturbance::Deny { .. } => api.allow_all(),
            Disturbance::Silence { .. } => self.stage.act_at_once(&Act::ProviderDown(false)),
            _ => {}
        }
        if let Some(rule) = self.rules.remove(&index) {
            api.faults().remove(rule);
            let (Disturbance::Requests { fault, .. } | Disturbance::Watches { fault, .. }) =
                &self.schedule.disturbances[index]
            else {
                return;
            };
            let name = match fault {
                Fault::Status(code) => format!("{code}"),
                fault => word(&format!("{fault:?}")),
            };
            self.count(&name, api.faults().struck(rule));
            api.faults().cut_watches();
        }
    }

    fn impair(&mut self, index: usize) {
        let disturbance = &self.schedule.disturbances[index];
        let lag_ms = match disturbance {
            Disturbance::Watches { fault: Fault::LagWatch(lag), .. } => Some(u64::try_from(lag.as_millis()).unwrap()),
            Disturbance::Watches { .. } | Disturbance::Expire { .. } | Disturbance::Requests { verb: "list", .. } => {
                None
            }
            _ => return,
        };
        let from_ms = self.stage.now_ms();
        let (from, until) = disturbance.span().unwrap_or_default();
        let until_ms = from_ms + (until.unwrap_or(from) - from) * 1000;
        self.impairments.push(Impairment { from_ms, until_ms, lag_ms });
    }
}

impl Disturbance {
    /// When it begins and ends; nothing where it waits for a write.
    pub fn span(&self) -> Option<(u64, Option<u64>)> {
        Some(match self {
            Self::Requests { from, until, .. }
            | Self::Watches { from, until, .. }
            | Self::Deny { from, until, .. }
            | Self::Silence { from, until } => (*from, Some(*until)),
            Self::Expire { at }
            | Self::Crash { at, .. }
            | Self::Restart { at, .. }
            | Self::Pause { at, .. }
            | Self::Jump { at, .. }
            | Self::Swap { first: at, .. } => (*at, None),
            Self::OnWrite { .. } => return None,
        })
    }
}
