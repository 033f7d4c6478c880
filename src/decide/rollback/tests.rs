//! A rollback puts back what was there before, and bars what failed.

use super::super::outcome::{ContainerLife, Ended, Watch};
use super::super::tests::{facts, plan, size, update};
use super::*;
use crate::quantity::{Bytes, Millicores};
use proptest::prelude::*;

fn crashing() -> ContainerLife {
    let ended = Ended { at: Timestamp::from_second(1_000_001).unwrap(), killed: false };
    ContainerLife { restarts: 1, backing_off: true, ended: Some(ended) }
}

/// All three pods were brought to `failed`, by resize or rollout, and one container got into a crash loop.
fn harmed(facts: &mut Facts<'_>, failed: Resources, previous: Resources, by_rollout: bool) {
    let of = |requests| vec![Size { container: "web".to_owned(), requests }];
    facts.target = of(failed);
    facts.last_change = Some(Timestamp::from_second(1_000_000).unwrap());
    facts.aftermath.previous = of(previous);
    facts.aftermath.cause = Some(Cause::Recommend);
    facts.aftermath.by_rollout = by_rollout;
    facts.aftermath.watch = Some(Watch { since: facts.last_change.unwrap(), ..Watch::default() });
    let requests = Resources { cpu: failed.cpu.or(previous.cpu), memory: failed.memory.or(previous.memory) };
    facts.template[0].requests = requests;
    for pod in &mut facts.pods {
        pod.containers[0].resources.requests = requests;
        pod.life.created = facts.last_change.unwrap();
    }
    facts.pods[1].containers[0].life = crashing();
}

fn arb_requests() -> impl Strategy<Value = Resources> {
    (proptest::option::of(1u64..4000), proptest::option::of(1u64..4096))
        .prop_map(|(cpu, mib)| Resources { cpu: cpu.map(Millicores), memory: mib.map(|mib| Bytes(mib << 20)) })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever the change was, each request that it altered is what it was before, at once and on every pod; only a
    /// first request stays where a resize cannot remove it.
    #[test]
    fn a_rollback_gives_what_was_there_before(failed in arb_requests(), previous in arb_requests(), by_rollout: bool) {
        let any = failed.cpu.is_some() || failed.memory.is_some();
        let visible = failed.cpu.is_some_and(|cpu| Some(cpu) != previous.cpu)
            || failed.memory.is_some_and(|memory| Some(memory) != previous.memory);
        prop_assume!(any && visible && (previous.cpu.is_some() || previous.memory.is_some()));
        let (mut update, plan) = (update(), plan());
        (update.cooldown, update.direction) = (std::time::Duration::from_hours(1), Direction::DecreaseOnly);
        let mut facts = facts(&update, &plan);
        harmed(&mut facts, failed, previous, by_rollout);
        facts.budget_spent = true;
        let Decision::Rollback(rollback) = super::super::decide(&facts) else { panic!("{:?}", super::super::decide(&facts)) };
        prop_assert_eq!(&rollback.failed, &facts.target);
        let after: Vec<Resources> = match rollback.restore {
            Restore::Template(template) => {
                prop_assert!(by_rollout);
                template.containers.iter().map(|container| container.requests).collect()
            }
            Restore::Pods(pods) => {
                prop_assert!(!by_rollout);
                pods.iter().flat_map(|pod| &pod.containers).map(|container| container.requests).collect()
            }
        };
        let stays = !by_rollout;
        let expected = Resources {
            cpu: previous.cpu.or(failed.cpu.filter(|_| stays)),
            memory: previous.memory.or(failed.memory.filter(|_| stays)),
        };
        let written = facts.template[0].requests != expected;
        let places = if by_rollout { 1 } else { 3 };
        prop_assert_eq!(after, if written { vec![expected; places] } else { Vec::new() });
    }

    /// The same size is never given again, nor less memory after a kill, and a size that is far enough away is.
    #[test]
    fn the_size_that_failed_is_barred_until_it_has_moved_on(
        lowered in 1000u64..2000, was in 2100u64..4000, now in 1u64..8000, percent in 0u32..50, oom: bool,
    ) {
        let (mut update, plan) = (update(), plan());
        update.min_change_percent = percent;
        let mut facts = facts(&update, &plan);
        let kind = if oom { HarmKind::OomKilled } else { HarmKind::CrashLoop };
        let harm = Harm { kind, container: Some("web".to_owned()), pod: None };
        let at = facts.now;
        let (failed, restored) = (vec![size("web", 500, lowered)], vec![size("web", 500, was)]);
        facts.aftermath.rolled_back = Some(RolledBack { at, harm, size: failed, restored });
        facts.aftermath.cause = Some(Cause::Rollback);
        let barred = bars(&facts, Some(&[size("web", 500, now)])).is_some();
        let enough = now > lowered && (now - lowered) * 100 >= lowered * u64::from(percent);
        prop_assert_eq!(barred, !enough);
        prop_assert!(bars(&facts, None).is_some(), "held while there is nothing else to do");
    }
}

#[test]
fn a_request_that_was_raised_may_move_either_way() {
    let (update, plan) = (update(), plan());
    let mut facts = facts(&update, &plan);
    let harm = Harm { kind: HarmKind::RolloutStuck, container: None, pod: None };
    let (at, failed, restored) = (facts.now, vec![size("web", 1000, 512)], vec![size("web", 500, 512)]);
    facts.aftermath.rolled_back = Some(RolledBack { at, harm, size: failed, restored });
    facts.aftermath.cause = Some(Cause::Rollback);
    for (cpu, barred) in [(1000, true), (1050, true), (950, true), (1100, false), (900, false)] {
        assert_eq!(bars(&facts, Some(&[size("web", cpu, 512)])).is_some(), barred, "{cpu}m");
    }
}

#[test]
fn another_container_does_not_release_the_one_that_suffered() {
    let (update, plan) = (update(), plan());
    let mut facts = facts(&update, &plan);
    let harm = Harm { kind: HarmKind::CrashLoop, container: Some("web".to_owned()), pod: None };
    let at = facts.now;
    let failed = vec![size("web", 250, 512), size("side", 100, 64)];
    let restored = vec![size("web", 500, 512), size("side", 200, 64)];
    facts.aftermath.rolled_back = Some(RolledBack { at, harm, size: failed, restored });
    facts.aftermath.cause = Some(Cause::Rollback);
    assert!(bars(&facts, Some(&[size("web", 250, 512), size("side", 150, 64)])).is_some());
    assert!(bars(&facts, Some(&[size("web", 300, 512), size("side", 100, 64)])).is_none());
}

#[test]
fn after_another_change_the_size_stays_barred_for_a_day() {
    let (update, plan) = (update(), plan());
    let mut facts = facts(&update, &plan);
    let harm = Harm { kind: HarmKind::CrashLoop, container: Some("web".to_owned()), pod: None };
    let (at, failed, restored) = (facts.now, vec![size("web", 250, 512)], vec![size("web", 500, 512)]);
    facts.aftermath.rolled_back = Some(RolledBack { at, harm, size: failed.clone(), restored });
    facts.aftermath.cause = Some(Cause::Recommend);
    assert!(bars(&facts, Some(&failed)).is_some());
    assert!(bars(&facts, None).is_none(), "what keeps another change from being made tells its own reason");
    facts.now = at.checked_add(SignedDuration::from_hours(25)).unwrap();
    assert!(bars(&facts, Some(&failed)).is_none());
    facts.aftermath.cause = Some(Cause::Rollback);
    assert!(bars(&facts, Some(&failed)).is_some(), "for ever, while nothing else was tried");
}
