//! What happens in one schedule, all of it drawn from its seed: what people do, and what goes wrong.

use super::dice::Dice;
use super::draw::{act, disturbance, wild_act};
use super::world::World;
use optipod_sim::Fault;
use serde_json::Value;

/// Nothing goes wrong from here on, and people do nothing any more.
pub const QUIET_FROM: u64 = 600;
/// The longest interval of a policy, in seconds.
pub const CYCLE: u64 = 300;

/// What people, the usage or other controllers do.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// The brake for everything, or for some namespaces; or off.
    Brake(Option<String>),
    BrakeOff,
    HoldNamespace(String, bool),
    HoldWorkload(usize, bool),
    /// One of the workload's pods.
    HoldPod(usize),
    /// A merge patch of a policy's spec.
    Edit(usize, Value),
    Use {
        workload: usize,
        cores_percent: u64,
        memory_percent: u64,
    },
    /// Minutes since the newest sample.
    Age(u64),
    ProviderDown(bool),
    Autoscaler(usize, bool),
    DeletePod(usize),
    Scale(usize, u64),
    Remove(usize),
    Create(usize),
    /// The same under another name.
    Rename(usize),
    /// A new release, by an annotation of the template.
    Release(usize, u64),
    /// The workload's containers fail with less than they request now.
    Need(usize),
    /// `optipod restore`.
    Undo(usize),
}

/// What a disturbance that waits for a write does as the write arrives, before it is served.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// The process ends; the write was never sent.
    CrashBefore,
    /// The process ends; the write is carried out and nobody hears of it.
    CrashAfter,
    /// It is carried out, and its answer is lost.
    LoseAnswer,
    /// The process stands still for so many seconds from the write's answer on.
    PauseAfter(u64),
    /// Somebody else changes the object: its version is not what was decided upon.
    Touch,
    /// Somebody else gives the pod other requests.
    Resize,
    DeletePod,
    /// The workload is deleted and made again under its name.
    Recreate,
    /// The brake is on for so many seconds.
    Brake(u64),
    Hold(u64),
    Recommend(u64),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Disturbance {
    /// Requests of the verb on the resource fail so; the first few, or each with a probability.
    Requests {
        from: u64,
        until: u64,
        fault: Fault,
        verb: &'static str,
        resource: &'static str,
        percent: u64,
    },
    /// Watches (of one resource, or all) suffer so.
    Watches {
        from: u64,
        until: u64,
        fault: Fault,
        resource: &'static str,
    },
    /// What watches resume from is forgotten.
    Expire {
        at: u64,
    },
    /// Rights are missing in a namespace: the whole verb.
    Deny {
        from: u64,
        until: u64,
        resource: &'static str,
        namespace: String,
    },
    Silence {
        from: u64,
        until: u64,
    },
    Crash {
        at: u64,
        slot: usize,
        back_after: u64,
        renamed: bool,
    },
    /// An orderly end and a new start.
    Restart {
        at: u64,
        slot: usize,
    },
    Pause {
        at: u64,
        slot: usize,
        seconds: u64,
    },
    /// The wall clock of a process is set.
    Jump {
        at: u64,
        slot: usize,
        by: i64,
    },
    /// The first process cannot renew its lease for a while, and later the second one.
    Swap {
        first: u64,
        then: u64,
    },
    OnWrite {
        nth: u64,
        effect: Effect,
        back_after: u64,
    },
}

#[derive(Clone, Debug)]
pub struct Schedule {
    pub seed: u64,
    pub world: World,
    /// Two processes with leader election, or one without.
    pub is_elected: bool,
    /// Milliseconds that each request takes.
    pub round_trip: u64,
    pub acts: Vec<(u64, Act)>,
    pub disturbances: Vec<Disturbance>,
}

impl Schedule {
    pub fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let world = World::new(&mut dice);
        let mut acts = Vec::new();
        for _ in 0..dice.between(2, 7) {
            let at = dice.between(10, 400);
            act(&mut dice, &world, at, &mut acts);
        }
        if !world.is_calm {
            for _ in 0..dice.between(2, 7) {
                let at = dice.between(10, 400);
                wild_act(&mut dice, &world, at, &mut acts);
            }
        }
        acts.sort_by_key(|(at, _)| *at);
        let is_elected = dice.percent(50);
        let round_trip = dice.between(3, 30);
        let disturbances = (0..dice.between(3, 8)).map(|_| disturbance(&mut dice, &world, is_elected)).collect();
        Self { seed, world, is_elected, round_trip, acts, disturbances }
    }

    /// How many processes there are.
    pub fn slots(&self) -> usize {
        if self.is_elected { 2 } else { 1 }
    }

    /// The right to resize is missing for a while.
    pub fn denies_resize(&self) -> bool {
        let denied = |disturbance: &Disturbance| matches!(disturbance, Disturbance::Deny { resource, .. } if *resource == "pods/resize");
        self.disturbances.iter().any(denied)
    }

    pub fn without_disturbances(&self) -> Self {
        Self { disturbances: Vec::new(), ..self.clone() }
    }
}
