//! LimitRanges, quotas, nodes and VPA, judged by an API server's admission written down naively.

use super::*;
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) fn range(name: &str) -> LimitRange {
    let none = Resources::default;
    LimitRange {
        name: name.to_owned(),
        scope: Scope::Container,
        min: none(),
        max: none(),
        ratio: Ratio::default(),
        default: none(),
        default_request: none(),
    }
}

pub(super) fn row(key: &str, counted: Counted, resource: Resource, hard: u64, used: u64) -> QuotaRow {
    QuotaRow { key: key.to_owned(), counted, resource, hard, used }
}

/// Nodes by name, millicores and mebibytes.
pub(super) fn nodes(all: &[(&str, u64, u64)]) -> Nodes {
    let node = |cpu, mib| resources(Some(cpu), Some(mib));
    let largest = Nodes::largest_of(all.iter().map(|(_, cpu, mib)| node(*cpu, *mib)));
    Nodes {
        own: all.iter().map(|(name, cpu, mib)| ((*name).to_owned(), node(*cpu, *mib))).collect(),
        largest: Arc::new(largest),
    }
}

fn cpu_quota(hard: u64, used: u64) -> Arc<Quota> {
    let row = row("requests.cpu", Counted::Requests, Resource::Cpu, hard, used);
    Arc::new(Quota { name: "quota".to_owned(), rows: vec![row] })
}

/// Three pods of 500m are to get 900m each.
fn growing(facts: &mut Facts<'_>) {
    facts.wanted[0].outcome = Ok(recommendation(900, 512));
    facts.pods.iter_mut().for_each(|pod| pod.node = Some("small".to_owned()));
    facts.guards.replicas = Replicas { wanted: 3, surge: 1, may_miss: false };
}

fn by_rollout(update: &mut UpdatePlan) {
    (update.in_place, update.recreate) = (false, true);
}

type Row = (&'static str, fn(&mut UpdatePlan), fn(&mut Facts<'_>));

#[test]
#[allow(clippy::too_many_lines)] // one table
fn each_guard_holds_what_the_api_server_would_refuse_and_nothing_else() {
    let rows: [Row; 24] = [
        ("Resize", |_| {}, growing),
        ("VpaOnWorkload", |_| {}, |f| f.guards.vpa = Some("vpa".to_owned())),
        ("VpaOnWorkload", by_rollout, |f| f.guards.vpa = Some("vpa".to_owned())),
        (
            "LimitRangeForbids",
            |_| {},
            |f| {
                growing(f);
                f.guards.limit_ranges.push(LimitRange { max: resources(Some(800), None), ..range("r") }.into());
            },
        ),
        (
            "LimitRangeWouldSetLimits",
            |_| {},
            |f| {
                f.guards
                    .limit_ranges
                    .push(LimitRange { default_request: resources(None, Some(64)), ..range("r") }.into());
                f.pods[0].init_containers.push(container("init", Resources::default(), Resources::default()));
            },
        ),
        // The template's new pods get the default limit, which the request must not exceed.
        ("LimitRangeForbids", by_rollout, |f| {
            growing(f);
            f.guards.limit_ranges.push(LimitRange { min: resources(Some(901), None), ..range("r") }.into());
        }),
        ("Rollout", by_rollout, |f| {
            f.guards.limit_ranges.push(LimitRange { default: resources(Some(4000), None), ..range("r") }.into());
        }),
        (
            "LimitRangeForbids",
            |_| {},
            |f| {
                let pod = LimitRange { scope: Scope::Pod, min: resources(None, Some(600)), ..range("r") };
                f.guards.limit_ranges.push(pod.into());
            },
        ),
        (
            "LimitRangeForbids",
            |_| {},
            |f| {
                // 250m under a limit of 1000m is a ratio of 4.
                let all = f.pods.iter_mut().flat_map(|pod| &mut pod.containers);
                all.for_each(|c| c.resources.limits.cpu = Some(Millicores(1000)));
                let ratio = Ratio { cpu: Some(3900), memory: None };
                f.guards.limit_ranges.push(LimitRange { ratio, ..range("r") }.into());
            },
        ),
        (
            "QuotaExceeded",
            |_| {},
            |f| {
                growing(f);
                f.guards.quotas.push(cpu_quota(1899, 1500));
            },
        ),
        (
            "Resize",
            |_| {},
            |f| {
                growing(f);
                f.guards.quotas.push(cpu_quota(1900, 1500));
            },
        ),
        // What is over its quota already may still shrink.
        ("Resize", |_| {}, |f| f.guards.quotas.push(cpu_quota(1000, 1500))),
        // 3 × 400m more for good, and one old pod of 500m beside them for a while.
        ("QuotaExceeded", by_rollout, |f| {
            growing(f);
            f.guards.quotas.push(cpu_quota(3199, 1500));
        }),
        ("Rollout", by_rollout, |f| {
            growing(f);
            f.guards.quotas.push(cpu_quota(3200, 1500));
        }),
        // Smaller pods of a Deployment that first adds one need room for it, or the rollout never begins.
        ("QuotaExceeded", by_rollout, |f| {
            f.guards.replicas = Replicas { wanted: 3, surge: 1, may_miss: false };
            f.guards.quotas.push(cpu_quota(1500, 1500));
        }),
        ("Rollout", by_rollout, |f| {
            f.guards.replicas = Replicas { wanted: 3, surge: 1, may_miss: true };
            f.guards.quotas.push(cpu_quota(1500, 1500));
        }),
        (
            "NodeTooSmall",
            |_| {},
            |f| {
                growing(f);
                f.guards.nodes = Some(nodes(&[("small", 899, 4096), ("large", 8000, 4096)]));
            },
        ),
        (
            "Resize",
            |_| {},
            |f| {
                growing(f);
                f.guards.nodes = Some(nodes(&[("small", 900, 4096)]));
            },
        ),
        (
            "NodeTooSmall",
            |_| {},
            |f| {
                growing(f);
                f.pods.iter_mut().for_each(|pod| pod.beside = resources(Some(1), None));
                f.guards.nodes = Some(nodes(&[("small", 900, 4096)]));
            },
        ),
        // Pods of other sizes: where the smallest goes first, what it gives back is not enough for its successor.
        ("QuotaExceeded", by_rollout, |f| {
            f.pods[0].containers[0].resources.requests.cpu = Some(Millicores(100));
            f.guards.replicas = Replicas { wanted: 3, surge: 0, may_miss: true };
            f.guards.quotas.push(cpu_quota(1249, 1100));
        }),
        ("Rollout", by_rollout, |f| {
            f.pods[0].containers[0].resources.requests.cpu = Some(Millicores(100));
            f.guards.replicas = Replicas { wanted: 3, surge: 0, may_miss: true };
            f.guards.quotas.push(cpu_quota(1250, 1100));
        }),
        // A rollout may go to a larger node.
        (
            "Rollout",
            |update| update.recreate = true,
            |f| {
                growing(f);
                f.guards.nodes = Some(nodes(&[("small", 899, 4096), ("large", 900, 512)]));
            },
        ),
        ("NodeTooSmall", by_rollout, |f| {
            growing(f);
            f.guards.nodes = Some(nodes(&[("small", 899, 4096), ("large", 900, 511)]));
        }),
        ("Rollout", by_rollout, |f| {
            growing(f);
            f.guards.nodes = Some(nodes(&[]));
        }),
    ];
    for (number, (expected, allow, change)) in rows.into_iter().enumerate() {
        let (mut update, plan) = (update(), plan());
        allow(&mut update);
        let mut facts = facts(&update, &plan);
        change(&mut facts);
        let decided = decide(&facts);
        assert_eq!(code(&decided), expected, "row {number}: {decided:?}");
    }
}

#[test]
fn what_holds_is_named_with_its_numbers() {
    let (update, plan) = (update(), plan());
    let mut facts = facts(&update, &plan);
    growing(&mut facts);
    facts.guards.quotas.push(cpu_quota(1600, 1500));
    let said = |facts: &Facts<'_>| match decide(facts) {
        Decision::Hold(reason) => reason.to_string(),
        other => panic!("{other:?}"),
    };
    let text = said(&facts);
    assert!(text.contains("ResourceQuota quota: the change needs 400m more of requests.cpu, and 100m"), "{text}");
    facts.guards = Guards { nodes: Some(nodes(&[("small", 899, 4096)])), ..Guards::default() };
    let text = said(&facts);
    assert!(text.contains("pod a would request 900m of cpu, and its node small can give 899m"), "{text}");
    let max = LimitRange { max: resources(Some(800), None), ..range("tight") };
    facts.guards = Guards { limit_ranges: vec![max.into()], ..Guards::default() };
    let text = said(&facts);
    assert!(text.contains("LimitRange tight: the maximum of cpu is 800m"), "{text}");
}

#[test]
fn a_guard_that_holds_a_new_size_lets_the_size_decided_before_be_carried_on() {
    let (update, plan) = (update(), plan());
    let mut facts = facts(&update, &plan);
    facts.target = vec![size("web", 400, 512)];
    facts.pods[0].containers[0].resources.requests = resources(Some(400), Some(512));
    growing(&mut facts);
    facts.guards.quotas.push(cpu_quota(1500, 1400));
    let Decision::Resize { target, .. } = decide(&facts) else { panic!("{:?}", decide(&facts)) };
    assert_eq!(target, facts.target);
}

#[test]
fn a_step_down_goes_below_what_a_limit_range_allows_at_most() {
    let update = UpdatePlan { max_decrease_percent: 10, ..update() };
    let (plan, web) = (plan(), container("web", resources(Some(4000), Some(512)), Resources::default()));
    let mut facts = facts(&update, &plan);
    let all = facts.pods.iter_mut().flat_map(|pod| &mut pod.containers);
    all.for_each(|c| c.resources = web.clone());
    let max = resources(Some(1000), None);
    facts.guards.limit_ranges.push(LimitRange { max, ..range("r") }.into());
    assert_eq!(change::target(&facts).unwrap()[0].requests.cpu, Some(Millicores(1000)));
}

#[test]
fn the_largest_nodes_are_those_that_no_other_outdoes() {
    let node = |cpu, mib| resources(Some(cpu), Some(mib));
    let all = [node(4, 8), node(2, 32), node(8, 16), node(8, 8), node(1, 1), node(2, 32)];
    assert_eq!(Nodes::largest_of(all.into_iter()), [node(8, 16), node(2, 32)]);
}

#[test]
fn a_recommendation_is_fitted_into_a_limit_range_as_far_as_the_policy_allows() {
    let plan = plan();
    let fitted = |min: Option<u64>, max: Option<u64>, ratio: Option<u64>, limit: Option<u64>| {
        let range = LimitRange {
            min: resources(min, None),
            max: resources(max, None),
            ratio: Ratio { cpu: ratio, memory: None },
            ..range("range")
        };
        let guards = Guards { limit_ranges: vec![range.into()], ..Guards::default() };
        let now = container("web", resources(Some(500), None), resources(limit, None));
        let fitted = fit(recommendation(200, 384), Some(&now), true, &plan, &guards);
        assert_eq!(fitted.memory.request, Bytes(384 << 20));
        (fitted.cpu.request.0, fitted.explanation)
    };
    assert_eq!(fitted(None, None, None, None), (200, String::new()));
    assert_eq!(fitted(Some(300), None, None, None).0, 300);
    assert_eq!(fitted(Some(300), None, None, None).1, "; CPU raised to the minimum 300m of LimitRange range");
    assert_eq!(fitted(None, Some(150), None, None).1, "; CPU lowered to the maximum 150m of LimitRange range");
    assert_eq!(fitted(None, None, Some(2000), Some(1001)).0, 501, "half of the limit, rounded up");
    assert_eq!(fitted(Some(5000), None, None, None).0, 200, "the policy's bounds do not reach that far");
    assert_eq!(fitted(None, Some(20), None, None).0, 200);
}

/// An API server's admission of pods, as the plugins' documentation has it, one amount at a time.
struct Admission {
    ranges: Vec<LimitRange>,
    quotas: Vec<QuotaRow>,
    nodes: BTreeMap<String, (u64, u64)>,
}

type Pod = Vec<ContainerResources>;

/// One amount of a container: requests or limits, of CPU or memory.
fn get(container: &ContainerResources, limits: bool, cpu: bool) -> Option<u64> {
    let all = if limits { container.limits } else { container.requests };
    if cpu { all.cpu.map(|c| c.0) } else { all.memory.map(|m| m.0) }
}

fn put(container: &mut ContainerResources, limits: bool, cpu: bool, to: u64) {
    let all = if limits { &mut container.limits } else { &mut container.requests };
    if cpu { all.cpu = Some(Millicores(to)) } else { all.memory = Some(Bytes(to)) }
}

fn amount(of: Resources, cpu: bool) -> Option<u64> {
    if cpu { of.cpu.map(|c| c.0) } else { of.memory.map(|m| m.0) }
}

fn total(pod: &Pod, limits: bool, cpu: bool) -> u64 {
    pod.iter().map(|container| get(container, limits, cpu).unwrap_or(0)).sum()
}

impl Admission {
    fn of(guards: &Guards) -> Self {
        let rows = guards.quotas.iter().flat_map(|quota| quota.rows.clone());
        let own = guards.nodes.iter().flat_map(|nodes| &nodes.own);
        Self {
            ranges: guards.limit_ranges.iter().map(|range| LimitRange::clone(range)).collect(),
            quotas: rows.collect(),
            nodes: own.map(|(name, node)| (name.clone(), (node.cpu.unwrap().0, node.memory.unwrap().0))).collect(),
        }
    }

    fn defaults(&self, pod: &Pod) -> Pod {
        let mut pod = pod.clone();
        for range in self.ranges.iter().filter(|range| range.scope == Scope::Container) {
            for container in &mut pod {
                for (limits, given) in [(true, range.default), (false, range.default_request)] {
                    for cpu in [true, false] {
                        if let (None, Some(value)) = (get(container, limits, cpu), amount(given, cpu)) {
                            put(container, limits, cpu, value);
                        }
                    }
                }
            }
        }
        pod
    }

    fn limit_ranges(&self, pod: &Pod) -> Result<(), String> {
        for range in &self.ranges {
            for cpu in [true, false] {
                let set = |limits| pod.iter().any(|c| get(c, limits, cpu).is_some());
                let whole = |limits| set(limits).then(|| total(pod, limits, cpu));
                let pairs: Vec<_> = match range.scope {
                    Scope::Container => pod.iter().map(|c| (get(c, false, cpu), get(c, true, cpu))).collect(),
                    Scope::Pod => vec![(whole(false), whole(true))],
                };
                for (request, limit) in pairs {
                    if let Some(min) = amount(range.min, cpu)
                        && (request.is_none_or(|r| r < min) || limit.is_some_and(|l| l < min))
                    {
                        return Err(format!("minimum {min}"));
                    }
                    if let Some(max) = amount(range.max, cpu)
                        && (limit.is_none_or(|l| l > max) || request.is_some_and(|r| r > max))
                    {
                        return Err(format!("maximum {max}"));
                    }
                    let ratio = if cpu { range.ratio.cpu } else { range.ratio.memory };
                    if let Some(ratio) = ratio {
                        let (request, limit) = (request.unwrap_or(0), limit.unwrap_or(0));
                        if request == 0 || limit == 0 || limit as f64 / request as f64 > ratio as f64 / 1000.0 {
                            return Err(format!("ratio {ratio}"));
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Charges the quotas for one pod, or refuses it.
    fn charge(&mut self, before: Option<&Pod>, after: &Pod) -> Result<(), String> {
        for row in &self.quotas {
            let (limits, cpu) = (row.counted == Counted::Limits, row.resource == Resource::Cpu);
            if after.iter().any(|c| get(c, limits, cpu).is_none()) {
                return Err(format!("failed quota: must specify {}", row.key));
            }
            let more = total(after, limits, cpu).saturating_sub(before.map_or(0, |pod| total(pod, limits, cpu)));
            if more > 0 && row.used + more > row.hard {
                return Err(format!("exceeded quota: {more} of {}", row.key));
            }
        }
        for row in &mut self.quotas {
            let (limits, cpu) = (row.counted == Counted::Limits, row.resource == Resource::Cpu);
            // What a pod gives back is counted later.
            row.used += total(after, limits, cpu).saturating_sub(before.map_or(0, |pod| total(pod, limits, cpu)));
        }
        Ok(())
    }

    fn release(&mut self, pod: &Pod) {
        for row in &mut self.quotas {
            row.used -= total(pod, row.counted == Counted::Limits, row.resource == Resource::Cpu);
        }
    }

    fn resize(&mut self, before: &PodFacts, after: &Pod) -> Result<(), String> {
        if self.defaults(after) != *after {
            return Err("the LimitRanger changes what nobody asked for".to_owned());
        }
        self.limit_ranges(after)?;
        let was = before.containers.iter().map(|c| c.resources.clone()).collect();
        self.charge(Some(&was), after)?;
        match before.node.as_ref().and_then(|name| self.nodes.get(name)) {
            Some((cpu, memory)) if total(after, false, true) > *cpu || total(after, false, false) > *memory => {
                Err("node didn't have enough allocatable resources".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// Replaces every pod, as the Deployment controller does: up to `surge` more at a time, and one less where that is allowed.
    fn roll(&mut self, old: &[Pod], new: &Pod, surge: usize, may_miss: bool) -> Result<(), String> {
        let new = self.defaults(new);
        for container in &new {
            for cpu in [true, false] {
                if get(container, true, cpu).is_some_and(|limit| get(container, false, cpu).unwrap_or(0) > limit) {
                    return Err("must be less than or equal to the limit".to_owned());
                }
            }
        }
        self.limit_ranges(&new)?;
        let fits =
            |(cpu, memory): &(u64, u64)| total(&new, false, true) <= *cpu && total(&new, false, false) <= *memory;
        if !self.nodes.is_empty() && !self.nodes.values().any(fits) {
            return Err("no node is large enough".to_owned());
        }
        let (mut left, mut made, mut missing) = (old.to_vec(), 0, 0);
        while made < old.len() {
            let room = left.len() + made < old.len() + surge;
            match if room { self.charge(None, &new) } else { Err("no room yet".to_owned()) } {
                Ok(()) => (made, missing) = (made + 1, 0),
                Err(why) => {
                    // Beyond what was surged an old pod goes for each that came; else one goes first, where that is allowed.
                    let replaced = left.len() + made > old.len();
                    if left.is_empty() || !(replaced || (may_miss && missing == 0)) {
                        return Err(why);
                    }
                    missing += usize::from(!replaced);
                    self.release(&left.remove(0));
                }
            }
        }
        Ok(())
    }
}

fn arb_amounts(cpu: std::ops::Range<u64>, mib: std::ops::Range<u64>) -> impl Strategy<Value = Resources> {
    let some = |range| prop::option::weighted(0.3, range);
    (some(cpu), some(mib)).prop_map(|(cpu, mib)| resources(cpu, mib))
}

fn arb_range() -> impl Strategy<Value = LimitRange> {
    let ratio = |range| prop::option::weighted(0.2, range);
    let bounds = (arb_amounts(1..800, 1..800), arb_amounts(500..6000, 500..6000), arb_amounts(500..3000, 500..4000));
    (bounds, prop::bool::weighted(0.3), ratio(1000u64..9000), ratio(1000u64..9000)).prop_map(
        |((min, max, default), pod, cpu, memory)| {
            let or = |a: Resources, b: Resources| Resources { cpu: a.cpu.or(b.cpu), memory: a.memory.or(b.memory) };
            let ratio = Ratio { cpu, memory };
            if pod {
                return LimitRange { scope: Scope::Pod, min, max, ratio, ..range("pods") };
            }
            let default = or(default, max);
            LimitRange { min, max, ratio, default, default_request: or(default, min), ..range("containers") }
        },
    )
}

/// Which rows a quota has, each with what is free of it.
fn arb_quota() -> impl Strategy<Value = Vec<(Counted, Resource, u64)>> {
    let row = (any::<bool>(), any::<bool>(), 0u64..6000).prop_map(|(limits, cpu, free)| {
        let counted = if limits { Counted::Limits } else { Counted::Requests };
        if cpu { (counted, Resource::Cpu, free) } else { (counted, Resource::Memory, free << 20) }
    });
    prop::collection::vec(row, 1..3)
}

/// LimitRanges, free amounts of quotas, nodes (millicores, mebibytes), surge, and whether a rollout may miss pods.
type Surroundings = (Vec<LimitRange>, Option<Vec<(Counted, Resource, u64)>>, Vec<(u64, u64)>, u64, bool);

fn arb_surroundings() -> impl Strategy<Value = Surroundings> {
    let ranges = prop_oneof![3 => Just(Vec::new()), 2 => prop::collection::vec(arb_range(), 1..3)];
    let quota = prop::option::weighted(0.5, arb_quota());
    let nodes = prop_oneof![1 => Just(Vec::new()), 1 => prop::collection::vec((300u64..8000, 300u64..12000), 1..3)];
    (ranges, quota, nodes, 0u64..3, any::<bool>())
}

/// Puts a workload there: its pods are on the nodes in turn, and the quota counts them.
fn place(facts: &mut Facts<'_>, around: &Surroundings) {
    let (ranges, quota, sizes, surge, may_miss) = around.clone();
    let names: Vec<String> = (0..sizes.len()).map(|i| format!("node-{i}")).collect();
    let all: Vec<_> = names.iter().zip(&sizes).map(|(name, (cpu, mib))| (name.as_str(), *cpu, *mib)).collect();
    for (index, pod) in facts.pods.iter_mut().enumerate() {
        pod.node = names.get(index % names.len().max(1)).cloned();
    }
    let pods = pods_of(facts);
    let row = |(counted, resource, free): (Counted, Resource, u64)| {
        let (limits, cpu) = (counted == Counted::Limits, resource == Resource::Cpu);
        let used = pods.iter().map(|pod| total(pod, limits, cpu)).sum::<u64>() + 7;
        row(&format!("{counted:?} {resource:?}"), counted, resource, used + free, used)
    };
    let quota =
        quota.map(|rows| Arc::new(Quota { name: "quota".to_owned(), rows: rows.into_iter().map(row).collect() }));
    facts.guards = Guards {
        vpa: None,
        limit_ranges: ranges.into_iter().map(Arc::new).collect(),
        quotas: quota.into_iter().collect(),
        nodes: (!all.is_empty()).then(|| nodes(&all)),
        // Without surge a rollout begins by taking a pod away.
        replicas: Replicas { wanted: pods.len() as u64, surge, may_miss: may_miss || surge == 0 },
    };
}

fn pods_of(facts: &Facts<'_>) -> Vec<Pod> {
    facts.pods.iter().map(|pod| pod.containers.iter().map(|c| c.resources.clone()).collect()).collect()
}

/// What the API server would say to a decision under these guards.
fn judge(facts: &Facts<'_>, guards: &Guards, decision: &Decision) -> Result<(), String> {
    let mut admission = Admission::of(guards);
    match decision {
        Decision::Resize { pods, .. } => {
            for sent in pods {
                let pod = facts.pods.iter().find(|pod| pod.uid == sent.uid).unwrap();
                let after = |c: &PodContainer| {
                    sent.containers.iter().find(|a| a.name == c.resources.name).unwrap_or(&c.resources).clone()
                };
                admission.resize(pod, &pod.containers.iter().map(after).collect())?;
            }
            Ok(())
        }
        Decision::Rollout { template, .. } => {
            let Replicas { surge, may_miss, .. } = guards.replicas;
            admission.roll(&pods_of(facts), &template.containers, usize::try_from(surge).unwrap(), may_miss)
        }
        // These facts know of no earlier change that could be taken back.
        Decision::Hold(_) | Decision::Publish | Decision::Rollback(_) => Ok(()),
    }
}

fn held_by_guard(decision: &Decision) -> bool {
    matches!(decision, Decision::Hold(reason) if reason.is_of_guard())
}

proptest! {
    #![proptest_config(ProptestConfig { max_global_rejects: 100_000, ..ProptestConfig::with_cases(1024) })]

    #[test]
    fn what_is_planned_is_admitted(mut world in arb_world(), around in arb_surroundings()) {
        world.mode = Mode::Auto;
        let mut facts = world.facts();
        place(&mut facts, &around);
        let decision = decide(&facts);
        prop_assert_eq!(judge(&facts, &facts.guards, &decision), Ok(()), "{:?}", decision);
    }

    // Most worlds are not held by a guard: one in ten or so counts as a case.
    #[test]
    fn a_resize_that_is_held_would_have_been_refused(mut world in arb_world(), around in arb_surroundings()) {
        (world.mode, world.update.recreate, world.update.in_place) = (Mode::Auto, false, true);
        world.target.clear();
        let mut facts = world.facts();
        place(&mut facts, &around);
        let held = decide(&facts);
        let target = change::target(&facts);
        let guards = std::mem::take(&mut facts.guards);
        // A LimitRange can also make a step deeper, which is another change.
        prop_assume!(held_by_guard(&held) && change::target(&facts) == target);
        facts.budget_spent = false;
        let unguarded = decide(&facts);
        prop_assert!(judge(&facts, &guards, &unguarded).is_err(), "{held:?} held {unguarded:?}");
    }

    #[test]
    fn a_fitted_recommendation_stays_in_bounds_and_is_what_the_limit_range_allows_where_that_is_possible(
        range in arb_range(), cpu in 50u64..=4000, limit in prop::option::of(1u64..4000),
    ) {
        let plan = plan();
        let guards = Guards { limit_ranges: vec![range.clone().into()], ..Guards::default() };
        let now = container("web", resources(Some(500), None), resources(limit, None));
        let fitted = fit(recommendation(cpu, 384), Some(&now), true, &plan, &guards).cpu.request.0;
        prop_assert!((50..=4000).contains(&fitted));
        if range.scope == Scope::Container {
            let least = range.min.cpu.map_or(0, |min| min.0);
            let most = range.max.cpu.map_or(u64::MAX, |max| max.0);
            // Each value in reach that every rule allows is as good as the oracle's own search for the nearest.
            let allowed = |value: u64| (least..=most).contains(&value)
                && (limit.is_some() || range.default.cpu.is_none_or(|default| value <= default.0))
                && range.ratio.cpu.is_none_or(|ratio| limit.is_none_or(|limit| limit * 1000 <= value * ratio));
            let nearest = (50..=4000).filter(|value| allowed(*value)).min_by_key(|value| value.abs_diff(cpu));
            if let Some(nearest) = nearest {
                prop_assert_eq!(fitted, nearest);
            }
        }
    }
}
