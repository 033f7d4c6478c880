//! SIGKILL at random moments, and at each call of what takes several.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crate::driver::{EACH_TICK, Said, Writer, copy_dir, prepared, verify};
use crate::fault;
use crate::migration;
use crate::phase::{AIMS, Phase, YOUNG, aim};
use crate::trials::{count, each, scratch, seed};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

const SIGKILL: i32 = 9;

pub fn anywhere() {
    let kills = count("OPTIPOD_TORTURE_KILLS", 8);
    let root = scratch();
    let library = fault::shim_for("OPTIPOD_TORTURE_KILLS", root.path());
    let young = prepared(root.path().join("young"), EACH_TICK, YOUNG);
    let of_a_life = AIMS.len() as u64 + 1; // and a migration
    let lives = each(kills.div_ceil(of_a_life), |life| {
        let dir = root.path().join(format!("store-{life}"));
        copy_dir(&young, &dir);
        let kills = of_a_life.min(kills - life * of_a_life);
        let (acked, mut landed) = live(&dir, library.as_ref(), life, kills);
        if let (true, Some(library)) = (kills == of_a_life, &library) {
            migration::killed(&root.path().join(format!("old-{life}")), library, life, SIGKILL);
            landed.push(Some(Phase::Migration));
        }
        (acked, landed)
    });
    let ticks: i64 = lives.iter().map(|(acked, _)| acked - YOUNG).sum();
    let mut landed: BTreeMap<String, u64> = BTreeMap::new();
    for phase in lives.iter().flat_map(|(_, landed)| landed) {
        *landed.entry(phase.map_or("Anything".to_owned(), |phase| format!("{phase:?}"))).or_default() += 1;
    }
    println!("{kills} kills, {ticks} ticks; in {landed:?}");
    if library.is_some() && kills >= of_a_life {
        assert_eq!(landed.len() as u64, of_a_life, "all phases and none: {landed:?}");
    }
}

/// Kills one store's writer again and again; the last tick, and where each kill landed.
fn live(dir: &Path, library: Option<&PathBuf>, life: u64, kills: u64) -> (i64, Vec<Option<Phase>>) {
    let mut rng = SmallRng::seed_from_u64(seed() + life);
    let (mut acked, mut found_before) = (YOUNG - 1, YOUNG - 1);
    let mut landed = Vec::new();
    for (n, phase) in (0..kills).zip(AIMS) {
        let at = phase.and_then(|phase| Some(aim(library?, dir, phase, seed() + life, SIGKILL)));
        let is_aimed = at.is_some();
        let writer = Writer::start(dir, EACH_TICK, &at.unwrap_or_default());
        if is_aimed {
            writer.wait_until(&format!("it is killed in {phase:?}"), Said::is_over);
        } else {
            writer.wait_until("it goes on", |said| said.acked > acked);
            thread::sleep(Duration::from_micros(rng.random_range(0..150_000)));
        }
        let said = writer.kill();
        assert!(!is_aimed || said.complaint("aimed ").is_some(), "it died by itself: {said:?}");
        landed.push(phase.filter(|_| is_aimed));
        acked = acked.max(said.acked);
        let found = verify(dir, EACH_TICK, acked);
        let context = format!("kill {n} of life {life}, seed {}, {:?}: {}", seed(), said.complaints, found.said);
        assert!(found.is_whole(), "{context}");
        let most = acked.max(found_before) + 1;
        assert!(found.last_tick <= Some(most), "{:?} beyond {most}: {context}", found.last_tick);
        found_before = found.last_tick.unwrap_or(-1);
    }
    (acked, landed)
}
