//! Damage of every file, over all its regions: nothing wrong is served, and the loss is told.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::driver::{Options, Writer, copy_dir, files, prepared, verify};
use crate::trials::{count, each, scratch, seed};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Damage {
    Flip,
    ZeroedPage,
    Cut,
    Gone,
}

/// A trial's damage: which file, and at what share of it.
struct Plan {
    path: PathBuf,
    kind: String,
    damage: Damage,
    share: f64,
}

/// Nine days with a tick each five minutes, then one each 15 s: a store of all kinds of slots, for a
/// day is rolled up eight days after its end. The day slot is complete with the first dense ticks.
const DAYS: Options<'static> = &["--stride", "20", "--dense", "51840"];
/// Ticks of it, with 5-minute slots some of which are open; a roll-up is due ten later.
const TICKS: i64 = 51_840 + 1190;
/// Files of all kinds: of slots of a day, an hour and 5 minutes, of series, of sled and beside it.
const KINDS: usize = 8;

pub fn anywhere() {
    let trials = count("OPTIPOD_TORTURE_FLIPS", 8);
    let root = scratch();
    let original = prepared(root.path().join("original"), DAYS, TICKS);
    let kinds = by_kind(&original);
    assert_eq!(kinds.len(), KINDS, "{:?}", kinds.keys());
    let results = each(trials, |n| {
        let dir = root.path().join(format!("store-{n}"));
        copy_dir(&original, &dir);
        let plan = plan(&kinds, n);
        let path = dir.join(plan.path.strip_prefix(&original).unwrap());
        let changed = plan.inflict(&path, n);
        let what = format!("trial {n}, seed {}: {:?} of {} at {}", seed(), plan.damage, path.display(), plan.share);
        let reported = survives(&dir, &what, changed);
        if changed && !reported {
            println!("not reported: {what}, of {} bytes", fs::metadata(&plan.path).unwrap().len());
        }
        fs::remove_dir_all(&dir).unwrap();
        ((plan.kind, plan.damage), [u64::from(changed), u64::from(reported)])
    });
    let mut outcomes: BTreeMap<(String, Damage), [u64; 2]> = BTreeMap::new();
    for (of, [changed, reported]) in results {
        let [damaged, told] = outcomes.entry(of).or_default();
        (*damaged, *told) = (*damaged + changed, *told + reported);
    }
    let told: u64 = outcomes.values().map(|[_, told]| told).sum();
    let untold = outcomes.iter().filter(|(_, [n, told])| told < n);
    let untold: Vec<_> =
        untold.map(|((kind, damage), [n, told])| format!("{} {damage:?} of {kind}", n - told)).collect();
    println!("{trials} damages, {told} told; without effect and untold: {}", untold.join(", "));
    // A removed file that costs nothing is written anew; of sled's own, what does not count may be damaged.
    let must_tell = |(kind, damage): &(String, Damage)| !kind.starts_with("sled/") && *damage != Damage::Gone;
    let silent: Vec<_> = outcomes.iter().filter(|(of, [n, told])| told < n && must_tell(of)).collect();
    assert!(silent.is_empty(), "not reported: {silent:?}");
}

/// Files by what they are; the lock has no content.
fn by_kind(dir: &Path) -> BTreeMap<String, Vec<PathBuf>> {
    let mut kinds: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for path in files(dir).into_iter().filter(|path| fs::metadata(path).unwrap().len() > 0) {
        let name = path.strip_prefix(dir).unwrap().to_string_lossy().into_owned();
        let kind = match name.split_once('-') {
            Some((slots, _)) if slots.starts_with("slots") => slots.to_owned(),
            _ if name.starts_with("series/") => "series".to_owned(),
            _ if name.starts_with("sled/snap") => "sled/snap".to_owned(),
            _ => name,
        };
        kinds.entry(kind).or_default().push(path);
    }
    kinds
}

/// Goes round the kinds of files and of damage; any region of a file.
fn plan(kinds: &BTreeMap<String, Vec<PathBuf>>, n: u64) -> Plan {
    let mut rng = SmallRng::seed_from_u64(seed() << 32 | n);
    let count = kinds.len() as u64;
    let (kind, paths) = kinds.iter().nth((n % count) as usize).unwrap();
    let damage = match (n / count) % 8 {
        0..4 => Damage::Flip,
        4 | 5 => Damage::ZeroedPage,
        6 => Damage::Cut,
        _ => Damage::Gone,
    };
    let share = rng.random();
    Plan { path: paths[rng.random_range(0..paths.len())].clone(), kind: kind.clone(), damage, share }
}

impl Plan {
    /// Whether the file is another one afterwards.
    fn inflict(&self, path: &Path, n: u64) -> bool {
        let before = fs::read(path).unwrap();
        let mut bytes = before.clone();
        let at = ((bytes.len() as f64 * self.share) as usize).min(bytes.len() - 1);
        match self.damage {
            Damage::Flip => bytes[at] ^= 1 << (n % 8),
            Damage::ZeroedPage => {
                let page = at / 4096 * 4096;
                let end = bytes.len().min(page + 4096);
                bytes[page..end].fill(0);
            }
            Damage::Cut => bytes.truncate(at),
            Damage::Gone => {
                fs::remove_file(path).unwrap();
                return true;
            }
        }
        fs::write(path, &bytes).unwrap();
        bytes != before
    }
}

/// Checks a damaged store, goes on with it, and checks it again; whether damage was reported.
fn survives(dir: &Path, what: &str, changed: bool) -> bool {
    let found = verify(dir, DAYS, TICKS - 1);
    assert!(matches!(found.code, Some(0 | 2)), "{what}: {found:?}");
    assert_eq!(found.wrong, 0, "{what}: {found:?}");
    assert!(changed || found.code == Some(0), "{what}: nothing was damaged, but {found:?}");
    assert!(found.lost == 0 || found.quarantined > 0, "{what}: silently lost: {found:?}");
    let writer = Writer::start(dir, DAYS, &[]);
    writer.wait_until("it goes on", |said| said.acked > TICKS + 10);
    let acked = writer.kill().acked;
    let again = verify(dir, DAYS, acked);
    assert!(matches!(again.code, Some(0 | 2)), "{what}, later: {again:?}");
    assert!(found.lost == 0 || again.code == Some(2), "{what}: forgotten: {again:?}");
    found.quarantined > 0
}
