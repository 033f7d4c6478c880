//! The aftermath of changes: how a status holds it, and how a policy's circuit opens. Pure but for the events.
//!
//! Invariant: what is put into a status is read back as it was.

use super::Controller;
use super::history::{Memory, requests, sizes};
use super::report::{PolicyState, circuit_opened};
use crate::decide::{Circuit, Harm, HarmKind, RolledBack, Size, Trouble, Watch, opens};
use crate::policy::types::{CircuitStatus, ContainerTrouble, RolledBackStatus, WatchStatus};
use crate::policy::{Policy, STATUS_CONTAINERS};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

pub(super) fn watch_status(watch: &Watch) -> WatchStatus {
    let trouble = |trouble: &Trouble| ContainerTrouble {
        container: trouble.container.clone(),
        crashing: trouble.crashing,
        killed: trouble.killed,
        restarts: trouble.restarts,
    };
    WatchStatus {
        since: Time(watch.since),
        settled: watch.settled,
        template: watch.template.clone(),
        unready: watch.unready,
        containers: watch.containers.iter().take(STATUS_CONTAINERS).map(trouble).collect(),
    }
}

pub(super) fn watch(status: &WatchStatus) -> Watch {
    let trouble = |trouble: &ContainerTrouble| Trouble {
        container: trouble.container.clone(),
        crashing: trouble.crashing,
        killed: trouble.killed,
        restarts: trouble.restarts,
    };
    Watch {
        since: status.since.0,
        settled: status.settled,
        template: status.template.clone(),
        unready: status.unready,
        containers: status.containers.iter().map(trouble).collect(),
    }
}

pub(super) fn rolled_back_status(past: &RolledBack) -> RolledBackStatus {
    let listed = |sizes: &[Size]| requests(sizes.get(..STATUS_CONTAINERS).unwrap_or(sizes));
    RolledBackStatus {
        at: Time(past.at),
        reason: past.harm.kind.code().to_owned(),
        container: past.harm.container.clone(),
        pod: past.harm.pod.clone(),
        size: listed(&past.size),
        restored: listed(&past.restored),
    }
}

/// A reason of a later version counts as a crash loop, for which any altered request matters.
pub(super) fn rolled_back(status: &RolledBackStatus) -> RolledBack {
    let kind = HarmKind::ALL.into_iter().find(|kind| kind.code() == status.reason).unwrap_or(HarmKind::CrashLoop);
    RolledBack {
        at: status.at.0,
        harm: Harm { kind, container: status.container.clone(), pod: status.pod.clone() },
        size: sizes(&status.size),
        restored: sizes(&status.restored),
    }
}

pub(super) fn circuit_status(circuit: &Circuit) -> CircuitStatus {
    CircuitStatus {
        opened_at: Time(circuit.opened_at),
        generation: circuit.generation,
        rollbacks: circuit.rollbacks,
        changed: circuit.changed,
    }
}

pub(super) fn circuit(status: &CircuitStatus) -> Circuit {
    Circuit {
        opened_at: status.opened_at.0,
        generation: status.generation,
        rollbacks: status.rollbacks,
        changed: status.changed,
    }
}

impl Controller {
    /// Opens the policy's circuit where its rollbacks ask for it; answers whether it opened now.
    pub(super) fn watch_circuit(&self, policy: &Policy, state: &mut PolicyState, now: Timestamp) -> bool {
        let memories: Vec<&Memory> = state.entries.keys().filter_map(|id| self.history.get(id)).collect();
        let rollbacks: Vec<_> = memories.iter().filter_map(|m| m.rolled_back.as_ref()).map(|past| past.at).collect();
        let writes: Vec<_> = memories.iter().filter_map(|memory| memory.last_change).collect();
        let closed = state.circuit.map(|circuit| circuit.opened_at);
        let Some((rollbacks, changed)) = opens(&rollbacks, &writes, closed) else { return false };
        let circuit = Circuit { opened_at: now, generation: policy.generation, rollbacks, changed };
        tracing::warn!(policy = %policy.id, rollbacks, changed, "the policy's circuit is open: it changes nothing until it is edited");
        self.events.publish(circuit_opened(&policy.id, &policy.uid, &circuit));
        state.standing.told(circuit.reason().code(), now);
        state.circuit = Some(circuit);
        true
    }
}

impl PolicyState {
    /// The circuit, where it is open for this generation of the policy.
    pub(super) fn open_circuit(&self, policy: &Policy) -> Option<Circuit> {
        self.circuit.filter(|circuit| circuit.generation == policy.generation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantity::{Bytes, Millicores};
    use crate::workload::Resources;
    use proptest::prelude::*;

    fn at() -> impl Strategy<Value = Timestamp> {
        (0i64..4_000_000_000).prop_map(|second| Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_secs(second))
    }

    fn size() -> impl Strategy<Value = Vec<Size>> {
        let one = ("[a-z]{1,8}", proptest::option::of(1u64..1 << 40), proptest::option::of(1u64..1 << 40)).prop_map(
            |(container, cpu, memory)| Size {
                container,
                requests: Resources { cpu: cpu.map(Millicores), memory: memory.map(Bytes) },
            },
        );
        proptest::collection::vec(one, 0..4)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn what_a_status_holds_is_read_back_as_it_was(
            (times, sizes) in ([at(), at(), at()], [size(), size()]),
            (settled, unready, numbers) in (any::<bool>(), any::<u32>(), any::<[u32; 3]>()),
            (kind, container, pod) in (0usize..4, proptest::option::of("[a-z]{1,8}"), proptest::option::of("[a-z]{1,8}")),
        ) {
            let [crashing, killed, restarts] = numbers;
            let containers = vec![Trouble { container: "web".to_owned(), crashing, killed, restarts }];
            let watched = Watch { since: times[0], settled, template: "t".to_owned(), unready, containers };
            let json = serde_json::to_string(&watch_status(&watched)).unwrap_or_default();
            prop_assert_eq!(serde_json::from_str(&json).map(|status| watch(&status)).ok(), Some(watched));
            let [size, restored] = sizes;
            let harm = Harm { kind: HarmKind::ALL[kind], container, pod };
            let past = RolledBack { at: times[1], harm, size, restored };
            let json = serde_json::to_string(&rolled_back_status(&past)).unwrap_or_default();
            prop_assert_eq!(serde_json::from_str(&json).map(|status| rolled_back(&status)).ok(), Some(past));
            let opened = Circuit { opened_at: times[2], generation: 3, rollbacks: crashing, changed: killed };
            let json = serde_json::to_string(&circuit_status(&opened)).unwrap_or_default();
            prop_assert_eq!(serde_json::from_str(&json).map(|status| circuit(&status)).ok(), Some(opened));
        }
    }
}
