//! Which containers were killed for memory, from the pods' statuses. Pure.
//!
//! A status tells of a kill when, but not at which memory; it tells what the container may use now. So what was hit is the
//! least of what it could use when the kill was first seen and just before, and stays that when the pod is resized later.
//!
//! Invariant: one kill is noted once.

use super::cluster::{ObjectKey, Pod};
use crate::policy::STATUS_CONTAINERS;
use crate::policy::types::ContainerOomKill;
use crate::quantity::Bytes;
use crate::recommend::OomKill;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::collections::{BTreeMap, BTreeSet};

/// A kill of one container.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Killed {
    pub(super) container: String,
    pub(super) kill: OomKill,
}

/// The memory of a pod's containers.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct PodMemory {
    /// What each container may use: its limit, else what it requests.
    pub(super) in_force: Vec<(String, Bytes)>,
    /// Those whose last end was a kill.
    pub(super) kills: Vec<Killed>,
}

impl PodMemory {
    fn of(&self, container: &str) -> Option<Bytes> {
        self.in_force.iter().find(|(name, _)| name == container).map(|(_, memory)| *memory)
    }
}

/// The kills that the pods' statuses show.
#[derive(Debug, Default)]
pub(super) struct Kills {
    by_pod: BTreeMap<ObjectKey, Vec<Killed>>,
    /// Pods with a kill that was not there before.
    news: BTreeSet<ObjectKey>,
}

impl Kills {
    /// Takes in a pod as it was and is, or that it is gone.
    pub(super) fn note(&mut self, key: &ObjectKey, before: Option<&Pod>, after: Option<&Pod>) {
        let known = self.by_pod.remove(key).unwrap_or_default();
        let Some(pod) = after.filter(|pod| !pod.memory.kills.is_empty()) else {
            self.news.remove(key);
            return;
        };
        let mut kills = Vec::new();
        for seen in &pod.memory.kills {
            let same = |known: &&Killed| (&known.container, known.kill.at) == (&seen.container, seen.kill.at);
            let mut kill = known.iter().find(same).unwrap_or(seen).clone();
            if !known.iter().any(|known| same(&known)) {
                self.news.insert(key.clone());
                let just_before = before.and_then(|pod| pod.memory.of(&seen.container));
                kill.kill.memory = just_before.map_or(seen.kill.memory, |before| before.min(seen.kill.memory));
            }
            kills.push(kill);
        }
        self.by_pod.insert(key.clone(), kills);
    }

    pub(super) fn of(&self, pod: &ObjectKey) -> &[Killed] {
        self.by_pod.get(pod).map(Vec::as_slice).unwrap_or_default()
    }

    /// Some pod has a kill that nobody has asked for.
    pub(super) fn has_news(&self) -> bool {
        !self.news.is_empty()
    }

    /// The pods with new kills, each told once.
    pub(super) fn take_news(&mut self) -> BTreeSet<ObjectKey> {
        std::mem::take(&mut self.news)
    }
}

/// Adds what was seen to what is remembered of a workload, and forgets what lies at or before `oldest`. Of two kills of a
/// container, an earlier one that hit no more than the later says nothing any more.
pub(super) fn remember(known: &mut Vec<Killed>, seen: &[Killed], oldest: Timestamp) {
    known.retain(|known| known.kill.at > oldest);
    let before = known.clone();
    for seen in seen.iter().filter(|seen| seen.kill.at > oldest) {
        let same = |known: &&Killed| known.container == seen.container;
        // What is not newer was seen already, perhaps when the container had less memory than now.
        if before.iter().filter(same).any(|known| known.kill.at >= seen.kill.at) {
            continue;
        }
        let outdone = |a: &OomKill, by: &OomKill| a.at <= by.at && a.memory <= by.memory;
        if !known.iter().filter(same).any(|known| outdone(&seen.kill, &known.kill)) {
            known.retain(|known| !(known.container == seen.container && outdone(&known.kill, &seen.kill)));
            known.push(seen.clone());
        }
    }
    known.sort_by(|a, b| (&a.container, a.kill.at).cmp(&(&b.container, b.kill.at)));
}

/// The kills of one container.
pub(super) fn of_container<'a>(kills: &'a [Killed], container: &'a str) -> impl Iterator<Item = OomKill> + 'a {
    kills.iter().filter(move |killed| killed.container == container).map(|killed| killed.kill)
}

/// As a status holds them: the latest, where there are too many.
pub(super) fn to_status(kills: &[Killed]) -> Vec<ContainerOomKill> {
    let mut latest: Vec<&Killed> = kills.iter().collect();
    latest.sort_by_key(|killed| std::cmp::Reverse(killed.kill.at));
    latest.truncate(STATUS_CONTAINERS);
    latest.sort_by(|a, b| (&a.container, a.kill.at).cmp(&(&b.container, b.kill.at)));
    let text = |killed: &Killed| ContainerOomKill {
        container: killed.container.clone(),
        at: Time(killed.kill.at),
        memory: killed.kill.memory.to_string(),
    };
    latest.into_iter().map(text).collect()
}

/// As a status held them.
pub(super) fn from_status(kills: &[ContainerOomKill]) -> Vec<Killed> {
    let parse = |one: &ContainerOomKill| {
        let memory = one.memory.parse().ok()?;
        Some(Killed { container: one.container.clone(), kill: OomKill { at: one.at.0, memory } })
    };
    kills.iter().filter_map(parse).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a test that panics has failed
mod tests {
    use super::*;
    use jiff::SignedDuration;
    use proptest::prelude::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs(second)
    }

    fn killed(container: &str, second: i64, mib: u64) -> Killed {
        Killed { container: container.to_owned(), kill: OomKill { at: at(second), memory: Bytes(mib << 20) } }
    }

    fn pod(mib: u64, kills: &[Killed]) -> Pod {
        let memory = PodMemory { in_force: vec![("web".to_owned(), Bytes(mib << 20))], kills: kills.to_vec() };
        Pod { owner: "rs".to_owned(), held: false, running: true, memory, facts: Err(String::new()) }
    }

    fn key() -> ObjectKey {
        ("shop".to_owned(), "web-1".to_owned())
    }

    #[test]
    fn a_kill_is_told_once_and_keeps_the_memory_of_when_it_was_seen_first() {
        let mut kills = Kills::default();
        let well = pod(100, &[]);
        kills.note(&key(), None, Some(&well));
        assert!(!kills.has_news() && kills.of(&key()).is_empty());
        let once = pod(100, &[killed("web", 5, 100)]);
        kills.note(&key(), Some(&well), Some(&once));
        assert_eq!(kills.take_news(), BTreeSet::from([key()]));
        // The pod was resized, and lists are made again.
        let resized = pod(200, &[killed("web", 5, 200)]);
        kills.note(&key(), Some(&once), Some(&resized));
        assert!(!kills.has_news());
        assert_eq!(kills.of(&key()), [killed("web", 5, 100)]);
        let again = pod(200, &[killed("web", 9, 200)]);
        kills.note(&key(), Some(&resized), Some(&again));
        assert!(kills.has_news());
        assert_eq!(kills.of(&key()), [killed("web", 9, 200)]);
        kills.note(&key(), Some(&again), None);
        assert!(!kills.has_news() && kills.of(&key()).is_empty());
    }

    #[test]
    fn a_kill_that_is_told_together_with_a_resize_hit_the_less_of_both() {
        for (before, after) in [(100, 200), (200, 100)] {
            let mut kills = Kills::default();
            kills.note(&key(), Some(&pod(before, &[])), Some(&pod(after, &[killed("web", 5, after)])));
            assert_eq!(kills.of(&key()), [killed("web", 5, 100)]);
        }
    }

    #[test]
    fn what_is_remembered_is_neither_noted_again_nor_kept_when_it_says_nothing_any_more() {
        let mut known = Vec::new();
        remember(&mut known, &[killed("web", 10, 100), killed("side", 10, 50)], at(0));
        // Seen again after a restart, when the pod has more.
        remember(&mut known, &[killed("web", 10, 300)], at(0));
        assert_eq!(known, [killed("side", 10, 50), killed("web", 10, 100)]);
        remember(&mut known, &[killed("web", 20, 80)], at(0));
        assert_eq!(known, [killed("side", 10, 50), killed("web", 10, 100), killed("web", 20, 80)]);
        remember(&mut known, &[killed("web", 30, 100)], at(0));
        assert_eq!(known, [killed("side", 10, 50), killed("web", 30, 100)]);
        remember(&mut known, &[killed("web", 9, 900)], at(10));
        assert_eq!(known, [killed("web", 30, 100)]);
    }

    #[test]
    fn a_status_lists_the_latest_kills() {
        let many: Vec<Killed> = (0..100).map(|i| killed(&format!("c{i:03}"), i, 1)).collect();
        let listed = to_status(&many);
        assert_eq!(listed.len(), STATUS_CONTAINERS);
        assert_eq!(listed[0].container, "c036");
    }

    fn arb() -> impl Strategy<Value = Vec<Killed>> {
        let one = (0u8..3, 0i64..50, 1u64..20).prop_map(|(c, second, mib)| killed(&format!("c{c}"), second, mib));
        proptest::collection::vec(one, 0..8)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        /// The oracle keeps every kill for ever.
        #[test]
        fn what_is_forgotten_never_demanded_more(mut kills in arb(), now in 50i64..200, window in 1i64..150) {
            kills.sort_by_key(|killed| killed.kill.at);
            kills.dedup_by_key(|killed| killed.kill.at);
            let mut known = Vec::new();
            for seen in &kills {
                remember(&mut known, std::slice::from_ref(seen), at(-1));
            }
            remember(&mut known, &kills, at(now - window));
            let window = std::time::Duration::from_secs(window.unsigned_abs());
            for container in ["c0", "c1", "c2"] {
                let floor = |kills: &[Killed]| {
                    crate::recommend::OomFloor::of(of_container(kills, container), window, at(now)).map(|f| f.bytes())
                };
                prop_assert_eq!(floor(&known), floor(&kills));
            }
        }

        #[test]
        fn kills_survive_the_status(kills in arb()) {
            let json = serde_json::to_string(&to_status(&kills)).unwrap();
            let mut back = from_status(&serde_json::from_str::<Vec<ContainerOomKill>>(&json).unwrap());
            let mut kills = kills;
            let order = |a: &Killed, b: &Killed| (&a.container, a.kill.at, a.kill.memory).cmp(&(&b.container, b.kill.at, b.kill.memory));
            kills.sort_by(order);
            back.sort_by(order);
            prop_assert_eq!(back, kills);
        }
    }
}
