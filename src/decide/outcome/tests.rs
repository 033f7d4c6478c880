//! The judgement as a table, and what holds for any facts.

use super::super::tests::{container, facts, plan, pod, resources, size, update};
use super::super::{Facts, Rollout};
use super::*;
use crate::workload::Resources;
use proptest::prelude::*;

/// Minutes after the change.
fn at(minutes: i64) -> Timestamp {
    Timestamp::from_second(2_000_000 + minutes * 60).unwrap()
}

#[allow(clippy::unnecessary_wraps)] // the shape that a life takes
fn ended(minutes: i64, killed: bool) -> Option<Ended> {
    Some(Ended { at: at(minutes), killed })
}

/// One minute after three pods were resized from 500m and 512Mi to 250m and 512Mi, and all is well.
fn changed<'a>(update: &'a crate::policy::UpdatePlan, plan: &'a crate::policy::ContainerPlan) -> Facts<'a> {
    let mut facts = facts(update, plan);
    facts.now = at(1);
    facts.last_change = Some(at(0));
    facts.target = vec![size("web", 250, 512)];
    let web = container("web", resources(Some(250), Some(512)), Resources::default());
    facts.pods = ["a", "b", "c"].map(|name| pod(name, std::slice::from_ref(&web))).to_vec();
    for pod in &mut facts.pods {
        pod.life = PodLife { created: at(-1000), since: at(-1000) };
    }
    facts.aftermath = Aftermath {
        cause: Some(Cause::Recommend),
        previous: vec![size("web", 500, 512)],
        watch: Some(Watch { since: at(0), ..Watch::default() }),
        ..Aftermath::default()
    };
    facts
}

fn watch<'a>(facts: &'a mut Facts<'_>) -> &'a mut Watch {
    facts.aftermath.watch.as_mut().unwrap()
}

fn life<'a>(facts: &'a mut Facts<'_>, pod: usize) -> &'a mut ContainerLife {
    &mut facts.pods[pod].containers[0].life
}

/// The pod is not ready since.
fn unready(facts: &mut Facts<'_>, pod: usize, since: i64) {
    facts.pods[pod].ready = false;
    facts.pods[pod].life.since = at(since);
}

fn crash_loop(facts: &mut Facts<'_>, pod: usize, minutes: i64) {
    *life(facts, pod) = ContainerLife { restarts: 1, backing_off: true, ended: ended(minutes, false) };
}

fn before(crashing: u32, killed: u32, restarts: u32) -> Vec<Trouble> {
    vec![Trouble { container: "web".to_owned(), crashing, killed, restarts }]
}

fn rolled_out(facts: &mut Facts<'_>) {
    facts.aftermath.by_rollout = true;
    facts.pods.iter_mut().for_each(|pod| pod.life = PodLife { created: at(0), since: at(0) });
}

fn said(judgement: &Judgement) -> String {
    match judgement {
        Judgement::Watched(watch) if watch.settled => "settled".to_owned(),
        Judgement::Watched(_) => "watched".to_owned(),
        Judgement::Over => "over".to_owned(),
        Judgement::Failed(harm) => harm.kind.code().to_owned(),
    }
}

type Row = (&'static str, &'static str, fn(&mut Facts<'_>));

#[rustfmt::skip] // a table reads better with one line a row
const TABLE: [Row; 51] = [
    ("watched", "all is well, and has been for a minute", |_| {}),
    ("watched", "all is well, nearly long enough", |f| f.now = f.now.checked_add(SignedDuration::from_secs(239)).unwrap()),
    ("settled", "all is well for five minutes", |f| f.now = at(5)),
    ("watched", "minReadySeconds is longer", |f| { f.now = at(9); f.aftermath.progress.min_ready = SignedDuration::from_mins(10); }),
    ("watched", "a pod became ready a minute ago", |f| { f.now = at(5); f.pods[1].life.since = at(4); }),
    ("watched", "a pod lacks the size", |f| { f.now = at(5); f.pods[2].containers[0].resources.requests = resources(Some(500), Some(512)); }),
    ("watched", "a pod is not ready", |f| { f.now = at(5); unready(f, 0, 1); }),
    ("settled", "a pod was not ready before", |f| { f.now = at(5); unready(f, 0, -1); watch(f).unready = 1; }),
    ("settled", "later crash loops are not its fault", |f| { watch(f).settled = true; f.now = at(40); crash_loop(f, 0, 39); }),
    ("over", "there is no watch", |f| { f.aftermath.watch = None; crash_loop(f, 0, 1); }),
    ("over", "a rollback is not watched", |f| { f.aftermath.cause = Some(Cause::Rollback); crash_loop(f, 0, 1); }),
    ("over", "somebody else's change came after it", |f| { f.aftermath.progress.template = "other".to_owned(); crash_loop(f, 0, 1); }),
    ("over", "an hour has passed", |f| { f.now = at(61); }),
    ("over", "an hour has passed, whatever pods do then", |f| { watch(f).settled = true; f.now = at(70); f.pods[0].ready = false; }),
    // Crash loops.
    ("CrashLoop", "a container waits for its next start", |f| crash_loop(f, 1, 1)),
    ("watched", "it waited before the change already", |f| { crash_loop(f, 1, -1); watch(f).containers = before(1, 0, 1); }),
    ("watched", "it waited before, and has ended once more", |f| { crash_loop(f, 1, 1); watch(f).containers = before(1, 0, 1); }),
    ("CrashLoop", "one waited before, now two do", |f| { crash_loop(f, 1, 1); crash_loop(f, 2, 1); watch(f).containers = before(1, 0, 1); }),
    ("watched", "a pod that was not changed", |f| { crash_loop(f, 1, 1); f.pods[1].containers[0].resources.requests = resources(Some(500), Some(512)); }),
    ("watched", "one restart is no loop", |f| *life(f, 0) = ContainerLife { restarts: 1, backing_off: false, ended: ended(1, false) }),
    ("CrashLoop", "two restarts are", |f| *life(f, 0) = ContainerLife { restarts: 2, backing_off: false, ended: ended(1, false) }),
    ("watched", "restarts of long ago", |f| *life(f, 0) = ContainerLife { restarts: 7, backing_off: false, ended: ended(-99, false) }),
    ("watched", "one more restart than before", |f| { watch(f).containers = before(0, 0, 7); *life(f, 0) = ContainerLife { restarts: 8, backing_off: false, ended: ended(1, false) }; }),
    ("CrashLoop", "two more than before", |f| { watch(f).containers = before(0, 0, 7); *life(f, 0) = ContainerLife { restarts: 9, backing_off: false, ended: ended(1, false) }; }),
    ("CrashLoop", "a new pod has no restarts of before", |f| { rolled_out(f); watch(f).containers = before(0, 0, 7); *life(f, 0) = ContainerLife { restarts: 2, backing_off: false, ended: ended(1, false) }; }),
    ("watched", "the change restarts it, and the kubelet backs off first", |f| { crash_loop(f, 0, 1); f.pods[0].containers[0].cpu_restarts = true; }),
    ("CrashLoop", "the change restarts it, and it fails after that", |f| { crash_loop(f, 0, 1); life(f, 0).restarts = 2; f.pods[0].containers[0].cpu_restarts = true; }),
    ("watched", "the change restarts it, and it fails once", |f| { *life(f, 0) = ContainerLife { restarts: 2, backing_off: false, ended: ended(1, false) }; f.pods[0].containers[0].cpu_restarts = true; }),
    ("CrashLoop", "only a change of memory would restart it", |f| { crash_loop(f, 0, 1); f.pods[0].containers[0].memory_restarts = true; }),
    ("watched", "an old pod in the middle of a rollout", |f| { rolled_out(f); crash_loop(f, 0, 1); f.pods[0].life.created = at(-1); }),
    ("over", "a rollout that somebody took back", |f| { rolled_out(f); crash_loop(f, 0, 1); f.reverted_by = Some("helm".to_owned()); }),
    // Kills for memory.
    ("OOMKilled", "a container was killed", |f| life(f, 2).ended = ended(1, true)),
    ("OOMKilled", "killed in a loop", |f| { crash_loop(f, 2, 1); life(f, 2).ended = ended(1, true); crash_loop(f, 0, 1); }),
    ("watched", "killed before the change", |f| life(f, 2).ended = ended(0, true)),
    ("watched", "killed before and after", |f| { life(f, 2).ended = ended(1, true); watch(f).containers = before(0, 1, 1); }),
    ("OOMKilled", "killed before and after it was given less memory", |f| { life(f, 2).ended = ended(1, true); watch(f).containers = before(0, 1, 1); f.aftermath.previous = vec![size("web", 500, 600)]; }),
    ("OOMKilled", "killed when all was settled, within the hour", |f| { watch(f).settled = true; f.now = at(70); life(f, 2).ended = ended(59, true); }),
    ("over", "killed after the hour", |f| { watch(f).settled = true; f.now = at(70); life(f, 2).ended = ended(61, true); }),
    ("watched", "killed although it was given more", |f| { life(f, 2).ended = ended(1, true); f.aftermath.previous = vec![size("web", 500, 500)]; }),
    ("watched", "killed in a loop although it was given more", |f| { crash_loop(f, 2, 1); life(f, 2).ended = ended(1, true); f.aftermath.previous = vec![size("web", 500, 500)]; }),
    ("CrashLoop", "it fails for another reason after it was given more", |f| { crash_loop(f, 2, 1); f.aftermath.previous = vec![size("web", 500, 500)]; }),
    // Readiness.
    ("watched", "not ready within the deadline", |f| { f.now = at(11); unready(f, 0, 2); }),
    ("NotReady", "not ready for longer", |f| { f.now = at(13); unready(f, 0, 2); }),
    ("NotReady", "the workload's own deadline is shorter", |f| { f.now = at(4); unready(f, 0, 2); f.aftermath.progress.deadline = SignedDuration::from_secs(90); }),
    ("settled", "not ready since before the change", |f| { f.now = at(13); unready(f, 0, -2); watch(f).unready = 1; }),
    ("settled", "as many were not ready before", |f| { f.now = at(13); unready(f, 0, 2); watch(f).unready = 1; }),
    ("NotReady", "a new pod was never ready", |f| { rolled_out(f); f.now = at(11); unready(f, 0, 0); }),
    // Rollouts.
    ("watched", "a rollout under way", |f| { rolled_out(f); f.rollout = Rollout::Progressing; f.now = at(9); }),
    ("RolloutStuck", "a rollout that does not get on", |f| { rolled_out(f); f.rollout = Rollout::Progressing; f.now = at(11); }),
    ("watched", "a long rollout that gets on", |f| { rolled_out(f); f.rollout = Rollout::Progressing; f.now = at(11); f.pods[2].life.since = at(9); }),
    ("RolloutStuck", "its own controller says so", |f| { rolled_out(f); f.rollout = Rollout::Progressing; f.aftermath.progress.exceeded = true; }),
];

#[test]
fn the_judgement_as_a_table() {
    let (update, plan) = (update(), plan());
    for (expected, name, change) in TABLE {
        let mut facts = changed(&update, &plan);
        change(&mut facts);
        assert_eq!(said(&judge(&facts)), expected, "{name}");
    }
}

#[test]
fn a_harm_names_the_container_and_the_first_pod() {
    let (update, plan) = (update(), plan());
    let mut facts = changed(&update, &plan);
    crash_loop(&mut facts, 1, 1);
    crash_loop(&mut facts, 2, 1);
    let harm = Harm { kind: HarmKind::CrashLoop, container: Some("web".to_owned()), pod: Some("b".to_owned()) };
    assert_eq!(judge(&facts), Judgement::Failed(harm));
}

fn arb_life() -> impl Strategy<Value = ContainerLife> {
    (0u32..4, any::<bool>(), proptest::option::of((-30i64..30, any::<bool>()))).prop_map(
        |(restarts, backing_off, end)| ContainerLife {
            restarts,
            backing_off,
            ended: end.map(|(minutes, killed)| Ended { at: at(minutes), killed }),
        },
    )
}

type PodParts = (ContainerLife, bool, i64, i64, bool);

fn arb_pods() -> impl Strategy<Value = Vec<PodParts>> {
    proptest::collection::vec((arb_life(), any::<bool>(), -30i64..30, -30i64..30, any::<bool>()), 0..6)
}

fn of_parts(facts: &mut Facts<'_>, parts: &[PodParts]) {
    let template = facts.pods[0].clone();
    facts.pods = parts
        .iter()
        .enumerate()
        .map(|(i, (life, ready, created, since, sized))| {
            let mut pod = PodFacts { name: i.to_string(), uid: i.to_string(), ready: *ready, ..template.clone() };
            pod.life = PodLife { created: at(*created), since: at(*created.max(since)) };
            pod.containers[0].life = *life;
            if !sized {
                pod.containers[0].resources.requests = resources(Some(500), Some(512));
            }
            pod
        })
        .collect();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever was wrong when the change began is nobody's fault, as long as nothing else goes wrong.
    #[test]
    fn what_was_so_before_is_no_harm(parts in arb_pods(), by_rollout: bool) {
        let (update, plan) = (update(), plan());
        let mut facts = changed(&update, &plan);
        of_parts(&mut facts, &parts);
        // Nothing has happened after the present moment, at which the change begins.
        facts.now = at(30);
        facts.last_change = Some(facts.now);
        facts.aftermath.by_rollout = by_rollout;
        facts.aftermath.watch = Some(Watch::begin(&facts));
        prop_assert!(!matches!(judge(&facts), Judgement::Failed(_)), "{:?}", judge(&facts));
        facts.now = at(34);
        prop_assert!(!matches!(judge(&facts), Judgement::Failed(_)), "{:?}", judge(&facts));
    }

    /// A container that is healthy when the change begins, and is in a crash loop or was killed afterwards, is found.
    #[test]
    fn what_begins_after_the_change_is_harm(parts in arb_pods(), which: prop::sample::Index, killed: bool, minutes in 1i64..5) {
        prop_assume!(!parts.is_empty());
        let (update, plan) = (update(), plan());
        let mut facts = changed(&update, &plan);
        let parts: Vec<_> = parts.into_iter().map(|(_, _, created, since, _)| (ContainerLife::default(), true, created - 60, since - 60, true)).collect();
        of_parts(&mut facts, &parts);
        facts.now = at(0);
        facts.aftermath.watch = Some(Watch::begin(&facts));
        facts.now = at(minutes);
        let pod = which.index(parts.len());
        *life(&mut facts, pod) = ContainerLife { restarts: 1, backing_off: !killed, ended: ended(minutes, killed) };
        let Judgement::Failed(harm) = judge(&facts) else { panic!("{:?}", judge(&facts)) };
        prop_assert_eq!(harm.kind, if killed { HarmKind::OomKilled } else { HarmKind::CrashLoop });
        prop_assert_eq!(harm.pod, Some(pod.to_string()));
    }

    /// Pods that lack the size change no verdict to a harm, and a harm names a pod that has it.
    #[test]
    fn only_changed_pods_do_harm(parts in arb_pods(), minutes in 0i64..90, stuck: bool) {
        let (update, plan) = (update(), plan());
        let mut facts = changed(&update, &plan);
        of_parts(&mut facts, &parts);
        facts.now = at(minutes);
        facts.aftermath.progress.exceeded = stuck;
        match judge(&facts) {
            Judgement::Failed(harm) => {
                let pod: usize = harm.pod.unwrap().parse().unwrap();
                prop_assert!(parts[pod].4, "pod {} was not changed", pod);
            }
            Judgement::Watched(watch) => prop_assert_eq!(watch.since, at(0)),
            Judgement::Over => prop_assert!(minutes > 60),
        }
    }

    /// Once settled it stays so: only a kill for memory is harm.
    #[test]
    fn a_settled_change_answers_for_kills_alone(parts in arb_pods(), minutes in 0i64..60) {
        let (update, plan) = (update(), plan());
        let mut facts = changed(&update, &plan);
        of_parts(&mut facts, &parts);
        facts.now = at(minutes);
        watch(&mut facts).settled = true;
        match judge(&facts) {
            Judgement::Failed(harm) => prop_assert_eq!(harm.kind, HarmKind::OomKilled),
            judgement => prop_assert_eq!(said(&judgement), "settled"),
        }
    }
}
