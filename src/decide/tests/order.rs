//! The whole order of decisions: each cause wins over every later one. `docs/decisions.md` is held to it.

use super::guards::{nodes, range, row};
use super::*;
use std::sync::LazyLock;

static ALL: LazyLock<UpdatePlan> = LazyLock::new(update);
static ONLY_INCREASES: LazyLock<UpdatePlan> =
    LazyLock::new(|| UpdatePlan { direction: Direction::IncreaseOnly, ..update() });
static WITH_LIMITS: LazyLock<UpdatePlan> = LazyLock::new(|| UpdatePlan { requests_only: false, ..update() });
static NOT_IN_PLACE: LazyLock<UpdatePlan> = LazyLock::new(|| UpdatePlan { in_place: false, ..update() });

/// Every pod requests this.
fn all_request(facts: &mut Facts<'_>, requests: Resources) {
    let all = facts.pods.iter_mut().flat_map(|pod| &mut pod.containers);
    all.for_each(|container| container.resources.requests = requests);
}

/// Pods that were brought to a size, and a container of one that was killed after that.
fn harmed(f: &mut Facts<'_>) {
    let sized = container("web", resources(Some(250), Some(512)), Resources::default());
    f.pods = vec![pod("a", &[sized])];
    f.pods[0].containers[0].life.ended = Some(Ended { at: f.now, killed: true });
    (f.target, f.last_change) = (vec![size("web", 250, 512)], Some(f.now));
    (f.update, f.resize_served, f.rights.resize) = (&*ALL, true, true);
    f.aftermath.previous = vec![size("web", 500, 512)];
    (f.aftermath.cause, f.aftermath.watch) = (Some(Cause::Recommend), Some(Watch::default()));
}

/// Every question that holds a workload, in the order in which they are asked. Each step makes the one answer true, whatever
/// was made true of the later ones.
pub(super) const ORDER: [Step; 38] = [
    ("BrakeOn", |f| f.brakes.config_map = Some(Brake { place: "optipod-system/optipod-brake".to_owned(), why: None })),
    ("HeldByAnnotation", |f| f.brakes.annotation = Some("namespace shop".to_owned())),
    ("PolicyDisabled", |f| f.mode = Mode::Disabled),
    ("Publish", |f| f.mode = Mode::Recommend),
    ("DryRun", |f| f.dry_run = true),
    ("WorkloadDeleting", |f| f.deleting = true),
    ("RolloutPaused", |f| f.rollout = Rollout::Paused),
    ("Rollback", harmed),
    ("CircuitOpen", |f| {
        f.aftermath.circuit = Some(Circuit { opened_at: at(0), generation: 1, rollbacks: 3, changed: 9 });
    }),
    ("RolloutInProgress", |f| f.rollout = Rollout::Progressing),
    ("RevertedByOther", |f| (f.reverted_by, f.resize_served) = (Some("helm".to_owned()), false)),
    ("NothingToSize", |f| f.wanted.clear()),
    ("InsufficientData", |f| f.wanted[0].outcome = Err(Insufficient::NoUsage)),
    ("StaleData", |f| f.now = at(11)),
    ("RolledBack", |f| {
        let harm = Harm { kind: HarmKind::NotReady, container: None, pod: None };
        let (failed, restored) = (vec![size("web", 250, 384)], vec![size("web", 500, 512)]);
        f.aftermath.rolled_back = Some(RolledBack { at: f.now, harm, size: failed, restored });
        f.aftermath.cause = Some(Cause::Rollback);
    }),
    ("LimitReached", |f| {
        f.update = &*ALL;
        f.wanted[0].outcome = Ok(recommendation(900, 520));
        let limited = container("web", resources(Some(500), Some(512)), resources(Some(500), None));
        (f.template, f.pods) = (vec![limited.clone()], vec![pod("a", &[limited])]);
    }),
    ("AlreadySized", |f| {
        all_request(f, resources(Some(500), Some(512)));
        f.wanted[0].outcome = Ok(recommendation(490, 500));
    }),
    ("WindowNotCovered", |f| {
        all_request(f, resources(Some(500), Some(512)));
        f.wanted[0].outcome = Ok(Recommendation { window_covered: false, ..recommendation(200, 384) });
    }),
    ("DirectionForbids", |f| {
        all_request(f, resources(Some(500), Some(512)));
        f.update = &*ONLY_INCREASES;
    }),
    ("RaisedRecently", |f| {
        all_request(f, resources(Some(500), Some(512)));
        f.raised = vec![Raised { container: "web".to_owned(), cpu: Some(at(-10)), memory: Some(at(-10)) }];
    }),
    ("HpaOnResource", |f| f.hpa = HpaFacts { cpu: Some("hpa".to_owned()), memory: Some("hpa".to_owned()) }),
    ("Cooldown", |f| f.last_change = Some(f.now)),
    ("VpaOnWorkload", |f| f.guards.vpa = Some("vpa".to_owned())),
    ("LimitsNotAllowed", |f| (f.update, f.rights.limits) = (&*WITH_LIMITS, false)),
    ("ResizeNotAllowed", |f| (f.update, f.rights.limits) = (&*NOT_IN_PLACE, true)),
    ("ResizeNotServed", |f| f.resize_served = false),
    ("ResizeForbidden", |f| f.rights.resize = false),
    ("NoRunningPods", |f| f.pods.clear()),
    ("UnsupportedPodResources", |f| f.pods.iter_mut().for_each(|pod| pod.pod_level_resources = true)),
    ("BestEffortPods", |f| {
        let all = f.pods.iter_mut().flat_map(|pod| &mut pod.containers);
        all.for_each(|c| (c.resources.requests, c.resources.limits) = <(Resources, Resources)>::default());
    }),
    ("QosWouldChange", |f| {
        let guaranteed = container("web", resources(Some(500), Some(512)), resources(Some(500), Some(512)));
        f.pods = vec![PodFacts {
            pod_level_resources: f.pods.first().is_some_and(|pod| pod.pod_level_resources),
            ..pod("a", &[guaranteed])
        }];
    }),
    ("ResizeRestarts", |f| {
        let all = f.pods.iter_mut().flat_map(|pod| &mut pod.containers);
        all.for_each(|c| (c.cpu_restarts, c.memory_restarts) = (true, true));
    }),
    ("LimitRangeWouldSetLimits", |f| {
        let default = LimitRange { default: resources(Some(4000), None), ..range("defaults") };
        f.guards.limit_ranges.push(default.into());
    }),
    ("LimitRangeForbids", |f| {
        f.guards.limit_ranges.push(LimitRange { min: resources(Some(300), None), ..range("range") }.into());
    }),
    ("QuotaExceeded", |f| {
        let row = row("limits.cpu", Counted::Limits, Resource::Cpu, 4000, 0);
        f.guards.quotas.push(Quota { name: "quota".to_owned(), rows: vec![row] }.into());
    }),
    ("NodeTooSmall", |f| {
        f.pods.iter_mut().for_each(|pod| pod.node = Some("node".to_owned()));
        f.guards.nodes = Some(nodes(&[("node", 200, 4096)]));
    }),
    ("BudgetSpent", |f| f.budget_spent = true),
    ("Resize", |_| {}),
];

#[test]
fn each_cause_wins_over_each_later_one() {
    let plan = plan();
    let mut wrong = Vec::new();
    for (first, (expected, make_first)) in ORDER.iter().enumerate() {
        for (other, make_other) in &ORDER[first..] {
            let mut facts = facts(&ALL, &plan);
            make_other(&mut facts);
            make_first(&mut facts);
            let decided = code(&decide(&facts));
            if decided != *expected {
                wrong.push(format!("{expected} before {other}: {decided}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
