//! What was written, computed from the seed alone: the oracle knows nothing of slots' encoding.

use optipod_storage::{SeriesKey, Timestamp};

/// A Monday at midnight UTC: the time of tick 0.
pub const START: i64 = 1_699_833_600_000;
/// From tick to tick.
pub const TICK: i64 = 15_000;

/// One sample of one container of one pod.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    pub pod: u64,
    pub at: i64,
    pub cpu: f64,
    pub memory: f64,
}

/// All that is ever written with one seed.
#[derive(Clone, Copy, Debug)]
pub struct Model {
    pub seed: u64,
    pub containers: u32,
    /// Pods of each container; 0: two for each fourth container, one for the others.
    pub replicas: u64,
    /// Ticks before tick `dense` that are no multiple of this are left out.
    pub stride: u64,
    pub dense: u64,
}

pub fn time_of(tick: u64) -> Timestamp {
    Timestamp(START + TICK * tick as i64)
}

/// The tick at or before `at`.
pub fn tick_at(at: Timestamp) -> u64 {
    ((at.0 - START) / TICK).max(0) as u64
}

/// splitmix64 of all parts.
fn mix(parts: [u64; 4]) -> u64 {
    parts.into_iter().fold(0x9e37_79b9_7f4a_7c15, |hash, part| {
        let mut z = (hash ^ part).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

impl Model {
    /// The container's name tells how many there are, so that a check needs nothing but the seed.
    pub fn key(&self, container: u32) -> SeriesKey {
        SeriesKey {
            namespace: format!("of-{}", self.containers),
            kind: "Deployment".to_owned(),
            workload: format!("app-{container}"),
            container: "main".to_owned(),
        }
    }

    /// How many containers the store of this key was written with.
    pub fn containers_of(key: &SeriesKey) -> Option<u32> {
        key.namespace.strip_prefix("of-")?.parse().ok()
    }

    /// Containers come one after another, and some go again.
    fn lives(container: u32, tick: u64) -> bool {
        let born = u64::from(container % 8) * 40;
        tick >= born && !(container % 16 == 5 && tick >= 2000)
    }

    /// Whether a tick is written at all.
    pub fn has(&self, tick: u64) -> bool {
        tick >= self.dense || tick.is_multiple_of(self.stride)
    }

    /// The samples of a container that belong to a tick.
    pub fn points(&self, container: u32, tick: u64) -> impl Iterator<Item = Point> {
        let (seed, id) = (self.seed, u64::from(container));
        let pods = match self.replicas {
            _ if !Self::lives(container, tick) || !self.has(tick) => 0,
            0 => 1 + u64::from(container % 4 == 3),
            replicas => replicas,
        };
        (0..pods).filter_map(move |pod| {
            let hash = mix([seed, id, tick, pod]);
            let is_absent = hash.is_multiple_of(16) && tick > 0;
            (!is_absent).then(|| point(id, time_of(tick).0, pod, hash))
        })
    }

    /// What the collector hands over at a tick: its samples, and some of the tick before again.
    pub fn offered(&self, container: u32, tick: u64) -> impl Iterator<Item = Point> {
        let before = tick.checked_sub(if tick > self.dense { 1 } else { self.stride });
        let again = before.into_iter().flat_map(move |before| self.points(container, before));
        let again = again.filter(|point| point.cpu.to_bits() % 8 == 0);
        again.chain(self.points(container, tick))
    }

    /// All samples of a container up to a tick, by time.
    pub fn history(&self, container: u32, last_tick: u64) -> Vec<Point> {
        let mut all: Vec<Point> = (0..=last_tick).flat_map(|tick| self.points(container, tick)).collect();
        all.sort_by_key(|point| point.at);
        all
    }
}

/// Mostly a little, sometimes a burst; each container has a level of its own. A few samples come
/// more than a minute late. No two samples of a pod share a time.
fn point(id: u64, now: i64, pod: u64, hash: u64) -> Point {
    let share = |shift: u32| ((hash >> shift) & 0xffff) as f64 / 65536.0;
    let age = ((hash >> 8) % 4) as i64 * 2000;
    let late = if hash % 32 == 7 { 74_500 } else { 0 };
    let level = 0.01 * 1.07_f64.powi((id % 97) as i32);
    let burst = if (hash >> 12).is_multiple_of(10) { 20.0 } else { 1.0 };
    Point {
        pod: 1000 * id + pod,
        at: now - age - late,
        cpu: level * burst * (1.0 + share(16)),
        memory: 1e8 * (1.0 + (id % 53) as f64) * (1.0 + 0.2 * share(32)),
    }
}
