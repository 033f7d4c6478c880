//! What a store is in the middle of, and how to end or stop it there.

use std::path::Path;

use crate::fault;

/// Work in several steps.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Phase {
    Tick,
    Snapshot,
    Seal,
    RollUp,
    Rewrite,
    /// Of the sled part of an older version.
    Migration,
}

/// What the kills and power cuts of one store's life aim at, in this order; `None` at any moment. A
/// tick comes first: on a new file system nothing but its own fdatasync has made it durable then.
pub const AIMS: [Option<Phase>; 6] =
    [Some(Phase::Tick), Some(Phase::Snapshot), Some(Phase::Seal), Some(Phase::RollUp), Some(Phase::Rewrite), None];

/// Ticks of a store that has its first snapshot and roll-up before it: with tick 480.
pub const YOUNG: i64 = 470;

impl Phase {
    /// The first file that it changes has this in its path.
    fn begins_with(self) -> &'static str {
        match self {
            Self::Tick => "/last-tick",
            Self::Snapshot => "/series/",
            Self::Seal => "/slots/5m-",
            Self::RollUp => "/slots/1h-",
            Self::Rewrite | Self::Migration => "/sled.new",
        }
    }

    /// Calls from its beginning until a few after its end.
    fn calls(self) -> u64 {
        match self {
            Self::Tick => 24,
            Self::Snapshot => 6,
            Self::Seal => 14,
            Self::RollUp => 26,
            Self::Rewrite => 30,
            Self::Migration => 20,
        }
    }
}

/// The environment in which a writer gets a signal in this phase, another call each time.
pub fn aim(library: &Path, dir: &Path, phase: Phase, time: u64, signal: i32) -> Vec<(&'static str, String)> {
    // The sled part is rewritten after a write to it failed; in the other phases no call fails.
    let failing = if phase == Phase::Rewrite { 20 + time % 20 } else { 0 };
    let mut environment = fault::environment(library, dir, failing, 1, fault::EIO);
    environment.extend([
        ("OPTIPOD_FAULT_IN", "/sled/db".to_owned()),
        ("OPTIPOD_AIM_AT", phase.begins_with().to_owned()),
        ("OPTIPOD_AIM_AFTER", (time * 11 % phase.calls()).to_string()),
        ("OPTIPOD_AIM_SIGNAL", signal.to_string()),
    ]);
    environment
}
