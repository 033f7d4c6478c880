//! Plays a schedule: the cluster, the processes, what people do and what goes wrong, each at its time.

use super::played::{Impairment, Played};
use super::plot::{Plot, Trap};
use super::process::Process;
use super::schedule::{Act, CYCLE, Disturbance, QUIET_FROM, Schedule};
use super::stage::Stage;
use optipod_sim::FaultId;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::{Instant, sleep_until};

#[derive(Clone, Debug)]
enum Step {
    Act(Act),
    Begin(usize),
    Over(usize),
    Back(usize),
    Clear,
    Quiet,
}

pub struct Player<'a> {
    pub(super) schedule: &'a Schedule,
    pub(super) stage: Arc<Stage>,
    pub(super) plot: Arc<Plot>,
    ended: UnboundedReceiver<(String, u64)>,
    start: Instant,
    steps: BTreeMap<(Instant, usize), Step>,
    pub(super) slots: Vec<Option<Process>>,
    pub(super) users: Vec<String>,
    pub(super) rules: BTreeMap<usize, FaultId>,
    pub(super) faults: BTreeMap<String, u64>,
    starts: Vec<(String, u64)>,
    pub(super) impairments: Vec<Impairment>,
    pub(super) ahead: Vec<i64>,
    pub(super) furthest: i64,
    next: usize,
}

/// Plays a schedule to its end.
pub async fn play(schedule: &Schedule) -> Played {
    let stage = Stage::new(&schedule.world).await;
    let (sender, ended) = unbounded_channel();
    let traps = schedule.disturbances.iter().filter_map(|disturbance| match disturbance {
        Disturbance::OnWrite { nth, effect, back_after } => {
            Some(Trap { nth: *nth, effect: effect.clone(), back_after: *back_after })
        }
        _ => None,
    });
    let plot = Plot::new(&stage, schedule.is_elected, schedule.round_trip, traps.collect(), sender);
    let slots = schedule.slots();
    let player = Player {
        schedule,
        stage,
        plot,
        ended,
        start: Instant::now(),
        steps: BTreeMap::new(),
        slots: (0..slots).map(|_| None).collect(),
        users: (0..slots).map(|slot| format!("optipod-{slot}")).collect(),
        rules: BTreeMap::new(),
        faults: BTreeMap::new(),
        starts: Vec::new(),
        impairments: Vec::new(),
        ahead: vec![0; slots],
        furthest: 0,
        next: 0,
    };
    player.play().await
}

impl Player<'_> {
    async fn play(mut self) -> Played {
        self.plan();
        while let Some(((at, _), step)) = self.steps.pop_first() {
            tokio::select! {
                biased;
                Some((user, back_after)) = self.ended.recv() => {
                    let key = self.key_at(at);
                    self.steps.insert(key, step);
                    self.ended(&user, back_after);
                }
                () = sleep_until(at) => self.take(step).await,
            }
        }
        let cycles = |n: u64| self.start + Duration::from_secs(QUIET_FROM + n * CYCLE + 15);
        sleep_until(cycles(2)).await;
        let policies = self.stage.harness.api.list("optipod.io/v1alpha1", "OptimizationPolicy");
        sleep_until(cycles(3)).await;
        self.finish(policies)
    }

    fn key_at(&mut self, at: Instant) -> (Instant, usize) {
        self.next += 1;
        (at, self.next)
    }

    fn at(&mut self, seconds: u64, step: Step) {
        // Off the whole seconds, at which everything else happens.
        let at = self.start + Duration::from_millis(seconds * 1000 + 137);
        let key = self.key_at(at);
        self.steps.insert(key, step);
    }

    fn plan(&mut self) {
        for slot in 0..self.slots.len() {
            self.at(slot as u64 * 3, Step::Back(slot));
        }
        for (at, act) in self.schedule.acts.clone() {
            self.at(at, Step::Act(act));
        }
        for (index, disturbance) in self.schedule.disturbances.iter().enumerate() {
            if let Some((from, until)) = disturbance.span() {
                self.at(from, Step::Begin(index));
                if let Some(until) = until {
                    self.at(until, Step::Over(index));
                }
            }
        }
        self.at(QUIET_FROM - 110, Step::Clear);
        self.at(QUIET_FROM, Step::Quiet);
    }

    async fn take(&mut self, step: Step) {
        match step {
            Step::Act(act) => self.stage.act(&act).await,
            Step::Begin(index) => self.begin(index).await,
            Step::Over(index) => self.over(index),
            Step::Back(slot) => self.back(slot),
            Step::Clear => self.plot.clear(),
            Step::Quiet => {
                let api = &self.stage.harness.api;
                api.allow_all();
                self.stage.act(&Act::ProviderDown(false)).await;
                let slots = 0..self.slots.len();
                slots
                    .filter(|slot| self.slots[*slot].is_none())
                    .collect::<Vec<_>>()
                    .into_iter()
                    .for_each(|s| self.back(s));
            }
        }
    }

    pub(super) fn ended(&mut self, user: &str, back_after: u64) {
        let Some(slot) = self.users.iter().position(|name| name == user) else { return };
        if let Some(process) = self.slots[slot].take() {
            process.kill();
            let at = Instant::now() + Duration::from_secs(back_after);
            let key = self.key_at(at);
            self.steps.insert(key, Step::Back(slot));
        }
    }

    pub(super) fn back(&mut self, slot: usize) {
        if self.slots[slot].is_some() {
            return;
        }
        let user = &self.users[slot];
        self.starts.push((user.clone(), self.stage.harness.api.request_count()));
        self.slots[slot] = Some(Process::start(&self.stage, &self.plot, user, self.ahead[slot]));
    }

    pub(super) fn count(&mut self, what: &str, times: u64) {
        *self.faults.entry(what.to_owned()).or_default() += times;
    }

    fn finish(mut self, policies: Vec<Value>) -> Played {
        for process in self.slots.iter().flatten() {
            process.kill();
        }
        for (effect, times) in self.plot.sprung() {
            self.count(&format!("OnWrite:{effect}"), times);
        }
        Played {
            journal: self.stage.harness.api.journal(),
            snapshots: self.stage.snapshots(),
            witnesses: self.stage.witnesses(),
            impairments: self.impairments,
            pauses: self.stage.notes.lock().unwrap().pauses.clone(),
            starts: self.starts,
            clocks_apart: self.furthest.unsigned_abs(),
            is_elected: self.schedule.is_elected,
            is_calm: self.schedule.world.is_calm,
            dry_run: self.schedule.world.dry_run,
            per_minute: self.schedule.world.max_updates_per_minute.into(),
            faults: self.faults,
            end: self.stage.end(),
            policies,
        }
    }
}
