//! Single facts and their answers as a table, and what holds for any facts. The order is in `order.rs`.

mod guards;
mod order;
mod reasons;
mod rollout;

use super::*;
use crate::policy::{Bounds, ContainerPlan, Direction, OnDelete, Percentile, ResourcePlan, UpdatePlan};
use crate::quantity::{Bytes, Millicores};
use crate::recommend::{Insufficient, Recommendation, Sized};
use crate::workload::{ContainerResources, QosClass, Resources, qos_class};
use jiff::Timestamp;
use proptest::prelude::*;
use std::time::Duration;

fn at(minutes: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + minutes * 60).unwrap()
}

pub(super) fn resources(cpu: Option<u64>, mib: Option<u64>) -> Resources {
    Resources { cpu: cpu.map(Millicores), memory: mib.map(|mib| Bytes(mib << 20)) }
}

pub(super) fn container(name: &str, requests: Resources, limits: Resources) -> ContainerResources {
    ContainerResources { name: name.to_owned(), requests, limits }
}

pub(super) fn plan() -> ContainerPlan {
    let bounds = |min: u64, max: u64| Bounds { min: Bytes(min << 20), max: Bytes(max << 20) };
    ContainerPlan {
        exclude: false,
        cpu: ResourcePlan {
            percentile: Percentile::P90,
            safety_factor: 1.2,
            bounds: Bounds { min: Millicores(50), max: Millicores(4000) },
        },
        memory: ResourcePlan { percentile: Percentile::P90, safety_factor: 1.2, bounds: bounds(64, 8192) },
    }
}

pub(super) fn update() -> UpdatePlan {
    UpdatePlan {
        in_place: true,
        recreate: false,
        requests_only: true,
        min_change_percent: 10,
        max_decrease_percent: 50,
        cooldown: Duration::from_mins(30),
        max_updates_per_cycle: 10,
        direction: Direction::Both,
        on_delete: OnDelete::Keep,
    }
}

fn recommendation(cpu: u64, mib: u64) -> Recommendation {
    Recommendation {
        cpu: Sized { request: Millicores(cpu), steps: Vec::new() },
        memory: Sized { request: Bytes(mib << 20), steps: Vec::new() },
        peak: None,
        window_covered: true,
        newest_sample: at(0),
        explanation: String::new(),
    }
}

pub(super) fn pod(name: &str, containers: &[ContainerResources]) -> PodFacts {
    let of = |resources: &ContainerResources| PodContainer {
        resources: resources.clone(),
        cpu_restarts: false,
        memory_restarts: false,
        life: ContainerLife::default(),
    };
    PodFacts {
        name: name.to_owned(),
        uid: name.to_owned(),
        resource_version: "1".to_owned(),
        ready: true,
        resize: ResizeState::Actuated,
        pod_level_resources: false,
        containers: containers.iter().map(of).collect(),
        init_containers: Vec::new(),
        ..PodFacts::default()
    }
}

/// A Deployment of three pods that request 500m and 512Mi; 200m and 384Mi are recommended, and all is allowed.
pub(super) fn facts<'a>(update: &'a UpdatePlan, plan: &'a ContainerPlan) -> Facts<'a> {
    let web = container("web", resources(Some(500), Some(512)), Resources::default());
    Facts {
        now: at(1),
        brakes: Brakes::default(),
        mode: Mode::Auto,
        dry_run: false,
        update,
        deleting: false,
        rollout: Rollout::Stable,
        reverted_by: None,
        template: vec![web.clone()],
        pods: ["a", "b", "c"].map(|name| pod(name, std::slice::from_ref(&web))).to_vec(),
        wanted: vec![Wanted { container: "web".to_owned(), plan, outcome: Ok(recommendation(200, 384)) }],
        target: Vec::new(),
        settings: [("web".to_owned(), plan)].into(),
        raised: Vec::new(),
        last_change: None,
        hpa: HpaFacts::default(),
        guards: Guards::default(),
        resize_served: true,
        rights: Rights { resize: true, rollout: true, limits: true },
        budget_spent: false,
        aftermath: Aftermath::default(),
    }
}

fn code(decision: &Decision) -> &'static str {
    match decision {
        Decision::Hold(reason) => reason.code(),
        Decision::Publish => "Publish",
        Decision::Resize { .. } => "Resize",
        Decision::Rollout { .. } => "Rollout",
        Decision::Rollback(_) => "Rollback",
    }
}

type Step = (&'static str, fn(&mut Facts<'_>));

#[test]
fn each_single_fact_gives_its_answer() {
    let (update, plan) = (update(), plan());
    let rows: [Step; 20] = [
        ("Resize", |_| {}),
        ("Publish", |f| f.mode = Mode::Recommend),
        ("RolloutPaused", |f| f.rollout = Rollout::Paused),
        ("InsufficientData", |f| f.wanted[0].outcome = Err(Insufficient::NoUsage)),
        ("NothingToSize", |f| f.wanted.clear()),
        ("AlreadySized", |f| f.wanted[0].outcome = Ok(recommendation(510, 520))),
        ("Resize", |f| f.last_change = Some(at(-30))),
        ("Cooldown", |f| f.last_change = Some(at(-28))),
        ("Resize", |f| f.hpa.cpu = Some("hpa".to_owned())),
        ("ResizeInProgress", |f| {
            f.target = vec![size("web", 250, 384)];
            f.pods.iter_mut().for_each(|pod| pod.containers[0].resources.requests = resources(Some(250), Some(384)));
            f.last_change = Some(f.now);
            f.pods[0].resize = ResizeState::InProgress;
        }),
        ("ResizeDeferred", |f| {
            f.target = vec![size("web", 250, 384)];
            f.pods[0].containers[0].resources.requests = resources(Some(250), Some(384));
            f.last_change = Some(f.now);
            f.pods[0].resize = ResizeState::Deferred;
        }),
        ("ResizeInfeasible", |f| {
            f.target = vec![size("web", 250, 384)];
            f.pods[0].containers[0].resources.requests = resources(Some(250), Some(384));
            f.last_change = Some(f.now);
            f.pods[0].resize = ResizeState::Infeasible("no room".to_owned());
        }),
        ("ResizeInProgress", |f| {
            f.target = vec![size("web", 250, 384)];
            f.pods[0].containers[0].resources.requests = resources(Some(250), Some(384));
            f.last_change = Some(f.now);
            f.pods[0].ready = false;
        }),
        ("Resize", |f| {
            // A pod that came later is brought to the size, whatever keeps a new size from being decided.
            f.target = vec![size("web", 250, 384)];
            f.pods[0].containers[0].resources.requests = resources(Some(250), Some(384));
            f.last_change = Some(f.now);
            f.budget_spent = true;
            f.wanted[0].outcome = Err(Insufficient::NoUsage);
        }),
        ("AlreadySized", |f| {
            // Somebody else has given the pods the very size that would be decided now.
            f.target = vec![size("web", 400, 512)];
            f.pods.iter_mut().for_each(|pod| pod.containers[0].resources.requests = resources(Some(200), Some(384)));
        }),
        ("QosWouldChange", |f| {
            let guaranteed = container("web", resources(Some(500), Some(512)), resources(Some(500), Some(512)));
            f.pods = vec![pod("a", &[guaranteed])];
        }),
        ("LimitReached", |f| {
            f.wanted[0].outcome = Ok(recommendation(900, 520));
            f.pods.iter_mut().for_each(|pod| pod.containers[0].resources.limits.cpu = Some(Millicores(500)));
        }),
        ("Resize", |f| f.reverted_by = Some("helm".to_owned())),
        ("RevertedByOther", |f| {
            f.reverted_by = Some("helm".to_owned());
            f.resize_served = false;
        }),
        ("WindowNotCovered", |f| {
            f.wanted[0].outcome = Ok(Recommendation { window_covered: false, ..recommendation(200, 384) });
        }),
    ];
    for (number, (expected, change)) in rows.into_iter().enumerate() {
        let mut facts = facts(&update, &plan);
        change(&mut facts);
        assert_eq!(code(&decide(&facts)), expected, "row {number}");
    }
}

pub(super) fn size(container: &str, cpu: u64, mib: u64) -> Size {
    Size { container: container.to_owned(), requests: resources(Some(cpu), Some(mib)) }
}

#[test]
fn directions_hold_the_other_way_only() {
    let plan = plan();
    for (direction, cpu, expected) in [
        (Direction::IncreaseOnly, 200, "DirectionForbids"),
        (Direction::IncreaseOnly, 900, "Resize"),
        (Direction::DecreaseOnly, 200, "Resize"),
        (Direction::DecreaseOnly, 900, "DirectionForbids"),
    ] {
        let update = UpdatePlan { direction, ..update() };
        let mut facts = facts(&update, &plan);
        facts.wanted[0].outcome = Ok(recommendation(cpu, 512));
        assert_eq!(code(&decide(&facts)), expected, "{direction:?} {cpu}");
    }
}

#[test]
fn small_steps_down_are_worth_it_when_the_whole_way_is() {
    let (update, plan) = (UpdatePlan { min_change_percent: 20, max_decrease_percent: 5, ..update() }, plan());
    let mut facts = facts(&update, &plan);
    let Decision::Resize { target, .. } = decide(&facts) else { panic!("a resize") };
    assert_eq!(target, [size("web", 475, 487)]);
    facts.wanted[0].outcome = Ok(recommendation(450, 480));
    assert_eq!(code(&decide(&facts)), "AlreadySized");
}

/// Three pods have the size that was decided; a new one, `d`, has the template's 500m and 512Mi.
#[test]
fn a_size_decided_before_is_brought_to_the_template_only_as_far_as_the_direction_allows() {
    let both = UpdatePlan { in_place: false, recreate: true, ..update() };
    let (update, plan) = (UpdatePlan { direction: Direction::IncreaseOnly, ..both }, plan());
    let mut facts = facts(&update, &plan);
    facts.target = vec![Size { container: "web".into(), requests: resources(Some(250), Some(384)) }];
    assert_eq!(code(&decide(&facts)), "AlreadySized", "nothing that is allowed is left to do");
    facts.target[0].requests = resources(Some(250), Some(600));
    let Decision::Rollout { template, .. } = decide(&facts) else { panic!("{:?}", decide(&facts)) };
    assert_eq!(template.containers[0].requests, resources(Some(500), Some(600)));
}

#[test]
fn a_size_that_no_pod_has_yet_is_neither_a_step_to_go_on_from_nor_what_was_before() {
    let (update, plan) = (update(), plan());
    let mut facts = facts(&update, &plan);
    // 500m to 250m was announced, and ended before its first write; now 100m are recommended.
    facts.target = vec![Size { container: "web".into(), requests: resources(Some(250), Some(384)) }];
    facts.wanted[0].outcome = Ok(recommendation(100, 384));
    let Decision::Resize { target, .. } = decide(&facts) else { panic!("{:?}", decide(&facts)) };
    assert_eq!(target, facts.target, "the step that was announced, not a second one upon it");
    assert_eq!(facts.standing("web").unwrap().requests, resources(Some(500), Some(512)));
    // One pod has it: the next step goes from there.
    facts.pods[0] = pod("a", &[container("web", resources(Some(250), Some(384)), Resources::default())]);
    let Decision::Resize { target, .. } = decide(&facts) else { panic!("{:?}", decide(&facts)) };
    assert_eq!(target[0].requests, resources(Some(125), Some(384)));
    assert_eq!(facts.standing("web").unwrap().requests, resources(Some(250), Some(384)));
}

#[test]
fn a_size_decided_before_is_not_carried_below_new_bounds_nor_below_what_was_used_since() {
    let raised = |plan: &mut ContainerPlan, cpu: u64| plan.cpu.bounds.min = Millicores(cpu);
    let below = carried_on(size("web", 200, 384), |plan, _| raised(plan, 300), HpaFacts::default());
    assert_eq!(sent_to_d(&below), Some(resources(Some(500), Some(384))), "the pod keeps what it has");
    let (update, plan) = (update(), plan());
    let sent = |peak: u64, has: u64| {
        let mut facts = facts(&update, &plan);
        let sized = container("web", resources(Some(200), Some(384)), Resources::default());
        let new = pod("d", &[container("web", resources(Some(500), Some(has)), Resources::default())]);
        facts.pods = vec![pod("a", std::slice::from_ref(&sized)), new];
        facts.target = vec![size("web", 200, 384)];
        facts.wanted[0].outcome = Ok(Recommendation { peak: Some(Bytes(peak << 20)), ..recommendation(200, 390) });
        facts.last_change = Some(facts.now);
        sent_to_d(&decide(&facts))
    };
    assert_eq!(sent(384, 512), Some(resources(Some(200), Some(384))));
    assert_eq!(sent(385, 512), Some(resources(Some(200), Some(512))));
    assert_eq!(sent(385, 256), Some(resources(Some(200), Some(384))), "more than it has is better than nothing");
}

fn carried_on(target: Size, change: impl FnOnce(&mut ContainerPlan, &mut UpdatePlan), hpa: HpaFacts) -> Decision {
    let (mut update, mut plan) = (update(), plan());
    change(&mut plan, &mut update);
    let mut facts = facts(&update, &plan);
    let sized = container("web", target.requests, Resources::default());
    let new = pod("d", &facts.template);
    facts.pods = ["a", "b", "c"].map(|name| pod(name, std::slice::from_ref(&sized))).to_vec();
    facts.pods.push(new);
    facts.target = vec![target];
    facts.wanted.retain(|wanted| !wanted.plan.exclude);
    facts.last_change = Some(facts.now);
    facts.hpa = hpa;
    decide(&facts)
}

fn sent_to_d(decision: &Decision) -> Option<Resources> {
    let Decision::Resize { pods, .. } = decision else { return None };
    assert_eq!(pods.iter().map(|sent| sent.pod.as_str()).collect::<Vec<_>>(), ["d"]);
    Some(pods[0].containers[0].requests)
}

#[test]
fn a_new_pod_is_brought_to_the_size_decided_as_far_as_that_is_still_allowed() {
    let none = HpaFacts::default;
    let as_before = carried_on(size("web", 200, 384), |_, _| {}, none());
    assert_eq!(sent_to_d(&as_before), Some(resources(Some(200), Some(384))));
    let excluded = carried_on(size("web", 200, 384), |plan, _| plan.exclude = true, none());
    assert_eq!(code(&excluded), "NothingToSize");
    let autoscaled = carried_on(size("web", 200, 384), |_, _| {}, HpaFacts { cpu: Some("hpa".into()), memory: None });
    assert_eq!(sent_to_d(&autoscaled), Some(resources(Some(500), Some(384))));
    let bounded = carried_on(size("web", 900, 384), |plan, _| plan.cpu.bounds.max = Millicores(600), none());
    assert_eq!(sent_to_d(&bounded), Some(resources(Some(500), Some(384))));
    let up_only = carried_on(size("web", 900, 384), |_, update| update.direction = Direction::IncreaseOnly, none());
    assert_eq!(sent_to_d(&up_only), Some(resources(Some(900), Some(512))));
    let down_only = carried_on(size("web", 900, 384), |_, update| update.direction = Direction::DecreaseOnly, none());
    assert_eq!(sent_to_d(&down_only), Some(resources(Some(500), Some(384))));
}

#[test]
fn a_batch_is_five_percent_and_at_least_one() {
    let (update, plan) = (update(), plan());
    let mut facts = facts(&update, &plan);
    let template = facts.pods[0].clone();
    for (pods, batch) in [(1, 1), (19, 1), (40, 2), (100, 5)] {
        facts.pods = (0..pods).map(|i| PodFacts { uid: i.to_string(), ..template.clone() }).collect();
        let Decision::Resize { pods: sent, remaining, .. } = decide(&facts) else { panic!("a resize") };
        assert_eq!((sent.len(), remaining), (batch, pods - batch));
    }
}

fn arb_resources() -> impl Strategy<Value = Resources> {
    (prop::option::of(1u64..3000), prop::option::of(1u64..4000)).prop_map(|(cpu, mib)| resources(cpu, mib))
}

/// Requests, and limits that are not below them; a limit without a request counts as one, as the API server has it.
fn arb_container(name: &'static str) -> impl Strategy<Value = ContainerResources> {
    let limits = (prop::option::of(0u64..2000), prop::option::of(0u64..2000));
    (arb_resources(), limits, any::<bool>()).prop_map(move |(requests, (cpu, mib), guaranteed)| {
        let limit = |request: Option<u64>, extra: Option<u64>| extra.map(|extra| request.unwrap_or(0) + extra + 1);
        let limits = Resources {
            cpu: limit(requests.cpu.map(|c| c.0), cpu).map(Millicores),
            memory: limit(requests.memory.map(|m| m.0), mib.map(|mib| mib << 20)).map(Bytes),
        };
        let requests = Resources { cpu: requests.cpu.or(limits.cpu), memory: requests.memory.or(limits.memory) };
        let limits = if guaranteed { requests } else { limits };
        container(name, requests, limits)
    })
}

fn arb_pod(index: usize) -> impl Strategy<Value = PodFacts> {
    let state = prop_oneof![
        6 => Just(ResizeState::Actuated),
        1 => Just(ResizeState::InProgress),
        1 => Just(ResizeState::Deferred),
        1 => Just(ResizeState::Infeasible("no room".to_owned())),
    ];
    let restarts = prop::array::uniform4(prop::bool::weighted(0.1));
    (arb_container("web"), arb_container("side"), state, prop::bool::weighted(0.9), restarts).prop_map(
        move |(web, side, resize, ready, restarts)| {
            let mut pod = pod(&format!("pod-{index}"), &[web, side]);
            (pod.resize, pod.ready) = (resize, ready);
            (pod.containers[0].cpu_restarts, pod.containers[0].memory_restarts) = (restarts[0], restarts[1]);
            (pod.containers[1].cpu_restarts, pod.containers[1].memory_restarts) = (restarts[2], restarts[3]);
            pod
        },
    )
}

fn arb_update() -> impl Strategy<Value = UpdatePlan> {
    let direction = prop_oneof![Just(Direction::Both), Just(Direction::IncreaseOnly), Just(Direction::DecreaseOnly)];
    (any::<[bool; 3]>(), 0u32..30, 1u32..=100, direction).prop_map(
        |([in_place, recreate, requests_only], min_change_percent, max_decrease_percent, direction)| UpdatePlan {
            in_place,
            recreate,
            requests_only,
            min_change_percent,
            max_decrease_percent,
            direction,
            ..update()
        },
    )
}

/// Everything of the facts that can vary, owned.
#[derive(Clone, Debug)]
struct World {
    update: UpdatePlan,
    plan: ContainerPlan,
    template: Vec<ContainerResources>,
    pods: Vec<PodFacts>,
    wanted: Vec<Result<Recommendation, Insufficient>>,
    target: Vec<Size>,
    switches: [bool; 6],
    mode: Mode,
}

fn arb_world() -> impl Strategy<Value = World> {
    let outcome = (50u64..=4000, 64u64..=8192, any::<bool>()).prop_map(|(cpu, mib, window_covered)| {
        Ok::<_, Insufficient>(Recommendation { window_covered, ..recommendation(cpu, mib) })
    });
    let outcome = prop_oneof![9 => outcome, 1 => Just(Err(Insufficient::NoUsage))];
    let pods = (0usize..5).prop_flat_map(|n| (0..n).map(arb_pod).collect::<Vec<_>>());
    let target = prop_oneof![
        3 => Just(Vec::new()),
        1 => (50u64..4000, 64u64..8000).prop_map(|(cpu, mib)| vec![size("web", cpu, mib)]),
    ];
    let switches = prop::array::uniform6(prop::bool::weighted(0.85));
    let mode = prop_oneof![8 => Just(Mode::Auto), 1 => Just(Mode::Recommend), 1 => Just(Mode::Disabled)];
    let template = (arb_container("web"), arb_container("side")).prop_map(|(web, side)| vec![web, side]);
    (arb_update(), template, pods, prop::collection::vec(outcome, 2), target, switches, mode).prop_map(
        |(update, template, pods, wanted, target, switches, mode)| World {
            update,
            plan: plan(),
            template,
            pods,
            wanted,
            target,
            switches,
            mode,
        },
    )
}

impl World {
    fn facts(&self) -> Facts<'_> {
        let [served, resize, rollout, stable, not_spent, wet] = self.switches;
        let wanted = ["web", "side"].iter().zip(&self.wanted).map(|(container, outcome)| Wanted {
            container: (*container).to_owned(),
            plan: &self.plan,
            outcome: outcome.clone(),
        });
        Facts {
            mode: self.mode,
            dry_run: !wet,
            rollout: if stable { Rollout::Stable } else { Rollout::Progressing },
            template: self.template.clone(),
            pods: self.pods.clone(),
            wanted: wanted.collect(),
            target: self.target.clone(),
            resize_served: served,
            rights: Rights { resize, rollout, limits: true },
            budget_spent: !not_spent,
            ..facts(&self.update, &self.plan)
        }
    }
}

fn limits_of(containers: &[ContainerResources]) -> Vec<(String, Resources)> {
    containers.iter().map(|container| (container.name.clone(), container.limits)).collect()
}

/// Each container that a resize changes, before and after.
fn changed<'a>(facts: &'a Facts<'_>, sent: &'a [PodResize]) -> Vec<(&'a PodContainer, &'a ContainerResources)> {
    let of_pod = |resize: &'a PodResize| {
        let pod = facts.pods.iter().find(|pod| pod.uid == resize.uid).unwrap();
        resize.containers.iter().map(move |after| {
            (pod.containers.iter().find(|before| before.resources.name == after.name).unwrap(), after)
        })
    };
    sent.iter().flat_map(of_pod).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    // Feature: k8s-workload-rightsizing, Property 3: Updates preserve limits
    #[test]
    fn property_3_limits_stay_unless_the_policy_lets_them_move(mut world in arb_world()) {
        world.update.requests_only = true;
        let facts = world.facts();
        match decide(&facts) {
            Decision::Resize { pods, .. } => for (before, after) in changed(&facts, &pods) {
                prop_assert_eq!(before.resources.limits, after.limits);
            },
            Decision::Rollout { template, .. } => {
                prop_assert!(!template.with_limits, "limits are not even sent");
                prop_assert_eq!(limits_of(&template.containers), limits_of(&facts.template));
            }
            _ => {}
        }
    }

    // Feature: k8s-workload-rightsizing, Property 6: Fallback strategy respect
    #[test]
    fn property_6_pods_are_replaced_or_restarted_only_where_recreate_is_allowed(mut world in arb_world()) {
        world.update.recreate = false;
        let facts = world.facts();
        match decide(&facts) {
            Decision::Rollout { .. } => prop_assert!(false, "a rollout replaces pods"),
            Decision::Resize { pods, .. } => for (before, after) in changed(&facts, &pods) {
                let was = &before.resources;
                let cpu = (was.requests.cpu, was.limits.cpu) != (after.requests.cpu, after.limits.cpu);
                let memory = (was.requests.memory, was.limits.memory) != (after.requests.memory, after.limits.memory);
                let restarts = (cpu && before.cpu_restarts) || (memory && before.memory_restarts);
                prop_assert!(!restarts);
            },
            _ => {}
        }
    }

    // Feature: k8s-workload-rightsizing, Property 8: Recommend mode prevents modifications
    #[test]
    fn property_8_recommend_and_disabled_never_change_anything(mut world in arb_world(), disabled in any::<bool>()) {
        world.mode = if disabled { Mode::Disabled } else { Mode::Recommend };
        let expected = if disabled { Decision::Hold(Reason::PolicyDisabled) } else { Decision::Publish };
        prop_assert_eq!(decide(&world.facts()), expected);
    }

    // Feature: k8s-workload-rightsizing, Property 21: In-place resize preference
    #[test]
    fn property_21_where_a_resize_is_possible_pods_are_not_replaced(mut world in arb_world()) {
        world.update.recreate = true;
        let facts = world.facts();
        let decided = decide(&facts);
        if let Decision::Rollout { target, .. } = &decided {
            prop_assert!(resize::plan(&facts, target).is_err());
        }
        world.update.recreate = false;
        // Allowing pods to be replaced never takes a resize away that was possible without.
        if let resized @ Decision::Resize { .. } = decide(&world.facts()) {
            prop_assert_eq!(decided, resized);
        }
    }

    // Feature: k8s-workload-rightsizing, Property 22: Recreate strategy availability
    #[test]
    fn property_22_without_in_place_support_pods_are_replaced_or_nothing_is_changed(mut world in arb_world()) {
        world.switches[0] = false;
        let with = |recreate| {
            let update = UpdatePlan { recreate, in_place: true, ..world.update.clone() };
            decide(&World { update, ..world.clone() }.facts())
        };
        let (without, with) = (with(false), with(true));
        let holds = matches!(without, Decision::Hold(_) | Decision::Publish);
        prop_assert!(holds);
        let resizes = matches!(with, Decision::Resize { .. });
        prop_assert!(!resizes);
        if matches!(with, Decision::Rollout { .. }) {
            prop_assert_eq!(without, Decision::Hold(Reason::ResizeNotServed), "the skipped change says what to allow");
        }
    }

    // Feature: k8s-workload-rightsizing, Property 29: Global dry-run mode
    #[test]
    fn property_29_dry_run_never_changes_anything(mut world in arb_world()) {
        world.switches[5] = false;
        let expected = match world.mode {
            Mode::Auto => Decision::Hold(Reason::DryRun),
            Mode::Recommend => Decision::Publish,
            Mode::Disabled => Decision::Hold(Reason::PolicyDisabled),
        };
        prop_assert_eq!(decide(&world.facts()), expected);
    }

    // Feature: k8s-workload-rightsizing, Property 2: Sufficient data triggers updates
    #[test]
    fn property_2_with_data_and_nothing_in_the_way_auto_changes_the_pods(cpu in 50u64..4000, mib in 64u64..8192) {
        let (update, plan) = (UpdatePlan { max_decrease_percent: 100, ..update() }, plan());
        let mut facts = facts(&update, &plan);
        facts.wanted[0].outcome = Ok(recommendation(cpu, mib));
        let worth = |wanted: u64, now: u64| wanted.abs_diff(now) * 10 >= now;
        match decide(&facts) {
            Decision::Resize { target, .. } => {
                let expected = (if worth(cpu, 500) { Some(cpu) } else { None }, if worth(mib, 512) { Some(mib) } else { None });
                let got = target[0].requests;
                prop_assert_eq!((got.cpu.map(|c| c.0), got.memory.map(|b| b.0 >> 20)), expected);
            }
            Decision::Hold(Reason::AlreadySized { .. }) => prop_assert!(!worth(cpu, 500) && !worth(mib, 512)),
            other => prop_assert!(false, "{:?}", other),
        }
    }

    // Feature: k8s-workload-rightsizing, Property 4: Bounds enforcement
    #[test]
    fn property_4_a_step_stays_within_the_bounds_and_no_deeper_than_allowed(world in arb_world()) {
        let facts = world.facts();
        let Ok(target) = change::target(&facts) else { return Ok(()) };
        for size in &target {
            let current = facts.current(&size.container).unwrap();
            let bounds = facts.wanted[0].plan;
            let kept = u64::from(100 - facts.update.max_decrease_percent);
            let carried = facts.target.iter().find(|before| before.container == size.container).map(|b| b.requests);
            let carried = carried.unwrap_or_default();
            let (cpu, memory) = (bounds.cpu.bounds, bounds.memory.bounds);
            let millicores = |cpu: Option<Millicores>| cpu.map(|c| c.0);
            let bytes = |memory: Option<Bytes>| memory.map(|b| b.0);
            let checks = [
                (
                    millicores(size.requests.cpu),
                    millicores(carried.cpu),
                    millicores(current.requests.cpu),
                    millicores(current.limits.cpu),
                    (cpu.min.0, cpu.max.0),
                ),
                (
                    bytes(size.requests.memory),
                    bytes(carried.memory),
                    bytes(current.requests.memory),
                    bytes(current.limits.memory),
                    (memory.min.0, memory.max.0),
                ),
            ];
            for (next, carried, now, limit, (min, max)) in checks {
                let (Some(next), now) = (next, now.unwrap_or(0)) else { continue };
                // What stays as it was decided before is no step.
                if Some(next) == carried {
                    continue;
                }
                prop_assert!(next <= max, "{next} > {max}");
                // A limit that may not move is the one thing below the least request.
                let capped = facts.update.requests_only && limit.is_some_and(|limit| limit < min);
                prop_assert!(next >= min || capped, "{next} < {min}");
                if facts.update.requests_only {
                    prop_assert!(limit.is_none_or(|limit| next <= limit));
                }
                let deepest = now * kept / 100;
                prop_assert!(next >= now || next >= deepest.min(max) || capped, "{next} from {now}");
            }
        }
    }

    #[test]
    fn a_resize_never_changes_the_qos_class_nor_goes_above_a_limit(world in arb_world()) {
        let facts = world.facts();
        let Decision::Resize { pods, .. } = decide(&facts) else { return Ok(()) };
        for resize in &pods {
            let pod = facts.pods.iter().find(|pod| pod.uid == resize.uid).unwrap();
            let after = |c: &PodContainer| {
                resize.containers.iter().find(|a| a.name == c.resources.name).unwrap_or(&c.resources).clone()
            };
            let (before, after): (Vec<_>, Vec<_>) =
                pod.containers.iter().map(|c| (c.resources.clone(), after(c))).unzip();
            prop_assert_eq!(qos_class(&before), qos_class(&after));
            prop_assert_ne!(qos_class(&before), QosClass::BestEffort);
            for (before, after) in before.iter().zip(&after) {
                prop_assert!(after.limits.cpu.is_none_or(|limit| after.requests.cpu <= Some(limit)));
                prop_assert!(after.limits.memory.is_none_or(|limit| after.requests.memory <= Some(limit)));
                let kept = |was: Resources, is: Resources| {
                    (was.cpu.is_none() || is.cpu.is_some()) && (was.memory.is_none() || is.memory.is_some())
                };
                prop_assert!(kept(before.requests, after.requests) && kept(before.limits, after.limits), "nothing is removed");
            }
        }
    }

    #[test]
    fn a_rollout_lists_every_container_of_the_template_and_no_other(world in arb_world()) {
        let facts = world.facts();
        let Decision::Rollout { template, .. } = decide(&facts) else { return Ok(()) };
        let names = |containers: &[ContainerResources]| containers.iter().map(|c| c.name.clone()).collect::<Vec<_>>();
        prop_assert_eq!(names(&template.containers), names(&facts.template));
        for (before, after) in facts.template.iter().zip(&template.containers) {
            prop_assert!(after.limits.cpu.is_none_or(|limit| after.requests.cpu <= Some(limit)));
            prop_assert!(before.requests.cpu.is_none() || after.requests.cpu.is_some());
        }
    }
}
