//! What waits for a write: as the nth arrives, something happens that its sender cannot know of.

use super::process::Gate;
use super::schedule::{Act, Effect};
use super::stage::Stage;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;

/// One effect, and after how many seconds a process that it ended is back.
#[derive(Clone, Debug)]
pub struct Trap {
    pub nth: u64,
    pub effect: Effect,
    pub back_after: u64,
}

pub struct Plot {
    pub is_elected: bool,
    pub round_trip: Duration,
    stage: Arc<Stage>,
    traps: Mutex<Vec<Trap>>,
    writes: Mutex<u64>,
    /// Tells the player which process has ended, and when it comes back.
    ended: UnboundedSender<(String, u64)>,
    sprung: Mutex<BTreeMap<String, u64>>,
}

/// Namespace and name of a pod or workload, and whether it is a pod; nothing for a status.
pub fn object(path: &str) -> Option<(&str, &str, bool)> {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    match parts.as_slice() {
        ["api", "v1", "namespaces", namespace, "pods", name, "resize"] => Some((*namespace, *name, true)),
        ["apis", "apps", "v1", "namespaces", namespace, _, name] => Some((*namespace, *name, false)),
        _ => None,
    }
}

impl Plot {
    pub fn new(
        stage: &Arc<Stage>,
        is_elected: bool,
        round_trip: u64,
        traps: Vec<Trap>,
        ended: UnboundedSender<(String, u64)>,
    ) -> Arc<Self> {
        let round_trip = Duration::from_millis(round_trip);
        let (traps, stage) = (Mutex::new(traps), stage.clone());
        Arc::new(Self {
            is_elected,
            round_trip,
            stage,
            traps,
            writes: Mutex::default(),
            ended,
            sprung: Mutex::default(),
        })
    }

    /// How often each effect came about.
    pub fn sprung(&self) -> BTreeMap<String, u64> {
        self.sprung.lock().unwrap().clone()
    }

    /// Nothing waits any more.
    pub fn clear(&self) {
        self.traps.lock().unwrap().clear();
    }

    /// A write is about to be served. Answers with what happens once it has been.
    pub fn on_write(&self, gate: &Gate, path: &str) -> Option<Trap> {
        let object = object(path);
        if object.is_none() && !path.contains("/optimizationpolicies/") {
            return None;
        }
        let trap = self.due(object.is_some())?;
        let name = format!("{:?}", trap.effect);
        *self.sprung.lock().unwrap().entry(word(&name)).or_default() += 1;
        match &trap.effect {
            Effect::CrashBefore => self.end(gate, trap.back_after),
            Effect::CrashAfter | Effect::LoseAnswer | Effect::PauseAfter(_) => return Some(trap),
            Effect::Brake(seconds) => self.for_a_while(*seconds, vec![(Act::Brake(None), Act::BrakeOff)]),
            Effect::Hold(seconds) => {
                let (_, name, _) = object?;
                let index = self.stage.index_of(name)?;
                self.for_a_while(*seconds, vec![(Act::HoldWorkload(index, true), Act::HoldWorkload(index, false))]);
            }
            Effect::Recreate => {
                let (_, name, _) = object?;
                let index = self.stage.index_of(name)?;
                self.for_a_while(7, vec![(Act::Remove(index), Act::Create(index))]);
            }
            Effect::Recommend(seconds) => {
                let all = self.stage.world.policies.iter().enumerate();
                let auto = all.filter(|(_, (_, spec))| spec["mode"] == "Auto").map(|(index, _)| index);
                let edit = |index, mode: &str| Act::Edit(index, json!({ "mode": mode }));
                self.for_a_while(*seconds, auto.map(|i| (edit(i, "Recommend"), edit(i, "Auto"))).collect());
            }
            effect => {
                let (namespace, name, is_pod) = object?;
                self.stage.strike(effect, namespace, name, is_pod);
            }
        }
        None
    }

    fn due(&self, has_object: bool) -> Option<Trap> {
        let mut writes = self.writes.lock().unwrap();
        *writes += 1;
        let needs_object =
            |trap: &Trap| !matches!(trap.effect, Effect::CrashBefore | Effect::CrashAfter | Effect::PauseAfter(_));
        let mut traps = self.traps.lock().unwrap();
        let found = traps.iter().position(|trap| *writes >= trap.nth && (has_object || !needs_object(trap)))?;
        Some(traps.remove(found))
    }

    /// The write has been served; its answer is still on its way.
    pub fn after_write(&self, gate: &Gate, trap: &Trap) {
        match trap.effect {
            Effect::LoseAnswer => {}
            Effect::PauseAfter(seconds) => gate.stand_still(Duration::from_secs(seconds)),
            _ => self.end(gate, trap.back_after),
        }
    }

    fn end(&self, gate: &Gate, back_after: u64) {
        gate.kill();
        let _ = self.ended.send((gate.user.clone(), back_after));
    }

    fn for_a_while(&self, seconds: u64, acts: Vec<(Act, Act)>) {
        for (on, _) in &acts {
            self.stage.act_at_once(on);
        }
        let stage = self.stage.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            for (_, off) in &acts {
                stage.act_at_once(off);
            }
        });
    }
}

/// The name of a variant.
pub fn word(debug: &str) -> String {
    debug.split(['(', ' ', '{']).next().unwrap_or_default().to_owned()
}
