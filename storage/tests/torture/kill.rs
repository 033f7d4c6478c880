//! SIGKILL at random moments, and at those where something is half done.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::driver::{CONTAINERS, Writer, count, names, verify};
use crate::fault;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// What is half done, as its leftovers tell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Seal,
    RollUp,
    Snapshot,
    Rewrite,
}

const PHASES: [Phase; 4] = [Phase::Seal, Phase::RollUp, Phase::Snapshot, Phase::Rewrite];

impl Phase {
    fn is_in(self, dir: &Path) -> bool {
        let unfinished = |folder: &str, prefixes: &[&str]| {
            let names = names(&dir.join(folder));
            let of_this = |name: &str| prefixes.iter().any(|prefix| name.starts_with(prefix));
            names.iter().filter_map(|name| name.strip_suffix(".tmp")).any(of_this)
        };
        match self {
            Self::Seal => unfinished("slots", &["5m"]),
            Self::RollUp => unfinished("slots", &["1h", "1d"]),
            Self::Snapshot => unfinished("series", &[""]),
            Self::Rewrite => dir.join("sled.new").exists() || dir.join("sled.old").exists(),
        }
    }
}

pub fn anywhere() {
    let kills = count("OPTIPOD_TORTURE_KILLS", 6);
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("store");
    let library = fault::shim(root.path());
    let mut rng = SmallRng::seed_from_u64(1);
    let mut landed: Vec<Phase> = Vec::new();
    let mut acked = -1;
    for n in 0..kills {
        let aim = PHASES.get((n % 6) as usize).copied();
        let environment = match &library {
            // The sled part is rewritten after a write to it failed.
            Ok(library) if aim == Some(Phase::Rewrite) => fault::environment(library, &dir, 60 + n, 1, fault::EIO),
            _ => Vec::new(),
        };
        let mut writer = Writer::start_with(&dir, CONTAINERS, &environment);
        writer.wait_until("it goes on", |w| w.acked() > acked);
        let wait = Duration::from_micros(rng.random_range(0..400_000));
        let from = Instant::now();
        let longest = Duration::from_secs(3);
        let is_time = |_: &Writer| match aim {
            Some(phase) => phase.is_in(&dir) || from.elapsed() > longest,
            None => from.elapsed() >= wait,
        };
        writer.wait_until("it is to be killed", is_time);
        acked = writer.kill().max(acked);
        landed.extend(PHASES.into_iter().filter(|phase| phase.is_in(&dir)));
        let found = verify(&dir, acked);
        assert_eq!((found.code, found.lost, found.quarantined), (Some(0), 0, 0), "kill {n}: {}", found.said);
        assert!(found.last_tick <= Some(acked + 1), "kill {n}: {} after {acked}", found.said);
    }
    let told: Vec<String> =
        PHASES.iter().map(|p| format!("{} in {p:?}", landed.iter().filter(|l| *l == p).count())).collect();
    println!("{kills} kills, {acked} ticks, of which {}", told.join(", "));
    if kills >= 40 {
        let expected = PHASES.into_iter().filter(|phase| *phase != Phase::Rewrite || library.is_ok());
        let missed: Vec<Phase> = expected.filter(|phase| !landed.contains(phase)).collect();
        assert!(missed.is_empty(), "no kill landed in {missed:?}");
    }
}
