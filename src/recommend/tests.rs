use super::*;
use crate::policy::{Bounds, MemoryFloor, Percentile, ResourcePlan};
use crate::usage::ResourceUsage;
use proptest::prelude::*;

const HOUR: Duration = Duration::from_hours(1);

fn usage(cpu: [f64; 4], memory_mib: [f64; 4], samples: u64, covered: Duration) -> WindowUsage {
    let of = |[p50, p90, p99, peak]: [f64; 4], unit: f64| ResourceUsage {
        p50: p50 * unit,
        p90: p90 * unit,
        p99: p99 * unit,
        mean: p50 * unit,
        peak: peak * unit,
        samples,
    };
    WindowUsage {
        cpu: of(cpu, 1.0),
        memory: of(memory_mib, Bytes::MIB as f64),
        from: Timestamp::UNIX_EPOCH,
        to: Timestamp::UNIX_EPOCH,
        covered,
        notes: Vec::new(),
    }
}

fn metrics(memory_floor: MemoryFloor) -> MetricsPlan {
    MetricsPlan { provider: None, window: 24 * HOUR, memory_floor, min_samples: 100, min_span: HOUR }
}

fn plan(percentile: Percentile, factor: f64, cpu: (u64, u64), memory_mib: (u64, u64)) -> ContainerPlan {
    ContainerPlan {
        exclude: false,
        cpu: ResourcePlan {
            percentile,
            safety_factor: factor,
            bounds: Bounds { min: Millicores(cpu.0), max: Millicores(cpu.1) },
        },
        memory: ResourcePlan {
            percentile,
            safety_factor: factor,
            bounds: Bounds { min: Bytes(memory_mib.0 << 20), max: Bytes(memory_mib.1 << 20) },
        },
    }
}

#[test]
fn the_explanation_shows_every_step_with_its_numbers() {
    let usage = usage([0.1, 0.2, 0.4, 0.9], [200.0, 210.0, 300.0, 480.0], 5760, 24 * HOUR);
    let got = recommend(&usage, &metrics(MemoryFloor::Peak), &plan(Percentile::P90, 1.2, (50, 4000), (64, 8192)), None)
        .unwrap();
    assert_eq!((got.cpu.request, got.memory.request), (Millicores(240), Bytes(504 << 20)));
    assert_eq!(
        got.explanation,
        "CPU 240m = P90 0.2 cores × 1.2 = 0.24 cores; memory 504Mi = P90 210Mi × 1.2 = 252Mi, \
         raised to the peak 480Mi × 1.05 = 504Mi; from 5760 samples covering 1day of the last 1d"
    );
    assert!(got.window_covered);
}

#[test]
fn without_the_floor_memory_follows_the_percentile() {
    let usage = usage([0.1; 4], [100.0, 100.0, 100.0, 900.0], 5760, 24 * HOUR);
    let got = recommend(&usage, &metrics(MemoryFloor::None), &plan(Percentile::P99, 1.5, (50, 120), (64, 8192)), None)
        .unwrap();
    assert_eq!((got.cpu.request, got.memory.request), (Millicores(120), Bytes(150 << 20)));
    assert!(got.explanation.contains("lowered to the policy's maximum 0.12 cores"), "{}", got.explanation);
}

fn killed_at(mib: u64, hours_ago: u32) -> Option<OomFloor> {
    let kill = OomKill { at: Timestamp::UNIX_EPOCH, memory: Bytes(mib << 20) };
    OomFloor::of([kill], 24 * HOUR, Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_hours(hours_ago.into()))
}

#[test]
fn a_kill_raises_memory_above_what_was_hit_with_or_without_the_floor_at_the_peak() {
    let usage = usage([0.1; 4], [100.0, 100.0, 100.0, 250.0], 5760, 24 * HOUR);
    let plan = plan(Percentile::P90, 1.2, (50, 4000), (64, 8192));
    let got = recommend(&usage, &metrics(MemoryFloor::Peak), &plan, killed_at(256, 3)).unwrap();
    assert_eq!(got.memory.request, Bytes(302 << 20), "256 × 1.18 = 302.08, above it by less than a sketch's precision");
    let told = "memory 302Mi = P90 100Mi × 1.2 = 120Mi, raised to the peak 250Mi × 1.05 = 262Mi, \
                raised to 256Mi × 1.18 = 302Mi, for it was killed for memory at 256Mi 3h ago; from";
    assert!(got.explanation.contains(told), "{}", got.explanation);
    let without = recommend(&usage, &metrics(MemoryFloor::None), &plan, killed_at(256, 3)).unwrap();
    assert_eq!(without.memory.request, got.memory.request);
    let lower = recommend(&usage, &metrics(MemoryFloor::Peak), &plan, killed_at(200, 3)).unwrap();
    assert!(!lower.explanation.contains("killed"), "{}", lower.explanation);
}

#[test]
fn the_policys_maximum_wins_over_a_kill() {
    let usage = usage([0.1; 4], [100.0; 4], 5760, 24 * HOUR);
    let plan = plan(Percentile::P90, 1.2, (50, 4000), (64, 260));
    let got = recommend(&usage, &metrics(MemoryFloor::Peak), &plan, killed_at(256, 0)).unwrap();
    assert_eq!(got.memory.request, Bytes(260 << 20));
    assert!(
        got.explanation
            .contains("307Mi, for it was killed for memory at 256Mi 0s ago, lowered to the policy's maximum 260Mi"),
        "{}",
        got.explanation
    );
}

#[test]
fn too_little_data_gives_no_recommendation_and_says_what_is_missing() {
    let plan = plan(Percentile::P90, 1.2, (50, 4000), (64, 8192));
    let with = |samples, covered| {
        recommend(&usage([0.1; 4], [64.0; 4], samples, covered), &metrics(MemoryFloor::Peak), &plan, None)
    };
    assert_eq!(with(0, HOUR), Err(Insufficient::NoUsage));
    assert_eq!(with(99, HOUR), Err(Insufficient::Samples { have: 99, need: 100 }));
    let short = with(100, HOUR / 2).unwrap_err();
    assert_eq!(short.to_string(), "usage covers 30m of the needed 1h; enough in 30m");
    assert!(!with(100, HOUR).unwrap().window_covered);
}

#[test]
fn a_container_that_is_killed_before_its_usage_is_seen_is_told_so() {
    let plan = plan(Percentile::P90, 1.2, (50, 4000), (64, 8192));
    let nothing = usage([0.0; 4], [0.0; 4], 0, Duration::ZERO);
    let why = recommend(&nothing, &metrics(MemoryFloor::Peak), &plan, killed_at(64, 0)).unwrap_err();
    assert_eq!(why, Insufficient::KilledUnseen { hit: Bytes(64 << 20) });
    assert!(why.to_string().starts_with("it was killed for memory at 64Mi, "), "{why}");
    // With some usage, what is missing of it is said, as ever.
    let few = usage([0.1; 4], [64.0; 4], 99, HOUR);
    let why = recommend(&few, &metrics(MemoryFloor::Peak), &plan, killed_at(64, 0)).unwrap_err();
    assert_eq!(why, Insufficient::Samples { have: 99, need: 100 });
}

fn distribution() -> impl Strategy<Value = [f64; 4]> {
    prop::array::uniform4(0.0..64.0f64).prop_map(|mut values| {
        values.sort_by(f64::total_cmp);
        values
    })
}

fn percentiles() -> impl Strategy<Value = (usize, Percentile)> {
    prop_oneof![Just((0, Percentile::P50)), Just((1, Percentile::P90)), Just((2, Percentile::P99))]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    // Feature: k8s-workload-rightsizing, Property 4: Bounds enforcement
    #[test]
    fn property_4_recommendations_never_leave_the_bounds(
        cpu in distribution(), memory in distribution(), (_, percentile) in percentiles(), factor in 1.0..5.0f64,
        cpu_bounds in (1u64..4000, 0u64..60_000), memory_bounds in (1u64..200, 0u64..400),
    ) {
        let plan = plan(percentile, factor, (cpu_bounds.0, cpu_bounds.0 + cpu_bounds.1), (memory_bounds.0, memory_bounds.0 + memory_bounds.1));
        let got = recommend(&usage(cpu, memory, 500, 24 * HOUR), &metrics(MemoryFloor::Peak), &plan, None).unwrap();
        prop_assert!(plan.cpu.bounds.min <= got.cpu.request && got.cpu.request <= plan.cpu.bounds.max);
        prop_assert!(plan.memory.bounds.min <= got.memory.request && got.memory.request <= plan.memory.bounds.max);
    }

    // Feature: k8s-workload-rightsizing, Property 14: Strategy application
    #[test]
    fn property_14_within_bounds_a_request_is_percentile_times_factor_rounded_up(
        cpu in distribution(), memory in distribution(), (index, percentile) in percentiles(), factor in 1.0..5.0f64,
    ) {
        let plan = plan(percentile, factor, (1, u64::MAX), (1, u64::MAX >> 20));
        let got = recommend(&usage(cpu, memory, 500, 24 * HOUR), &metrics(MemoryFloor::None), &plan, None).unwrap();
        let millicores = (cpu[index] * factor * 1000.0).max(1.0);
        let mebibytes = (memory[index] * factor).max(1.0);
        for (got, wanted) in [(got.cpu.request.0 as f64, millicores), (got.memory.request.0 as f64 / 1_048_576.0, mebibytes)] {
            prop_assert!(got < wanted + 1.0 && got > wanted - 1.0, "{got} for {wanted}");
            prop_assert!(got >= wanted * 0.9975, "{got} for {wanted}: beyond the precision of a sketch");
        }
    }

    #[test]
    fn a_kill_only_ever_raises_memory_and_leaves_cpu_alone(
        cpu in distribution(), memory in distribution(), (_, percentile) in percentiles(), factor in 1.0..5.0f64,
        mib in 1u64..64, hours in 0u32..30,
    ) {
        let plan = plan(percentile, factor, (1, u64::MAX), (1, u64::MAX >> 20));
        let with = |oom| recommend(&usage(cpu, memory, 500, 24 * HOUR), &metrics(MemoryFloor::Peak), &plan, oom).unwrap();
        let (before, after) = (with(None), with(killed_at(mib, hours)));
        prop_assert_eq!(before.cpu, after.cpu);
        prop_assert!(before.memory.request <= after.memory.request);
        if hours < 24 {
            prop_assert!(after.memory.request >= Bytes(mib << 20));
        } else {
            prop_assert_eq!(before.memory, after.memory);
        }
    }

    #[test]
    fn with_the_floor_memory_covers_the_peak(memory in distribution(), (_, percentile) in percentiles(), factor in 1.0..5.0f64) {
        let plan = plan(percentile, factor, (1, 1000), (1, 1 << 20));
        let got = recommend(&usage([0.1; 4], memory, 500, 24 * HOUR), &metrics(MemoryFloor::Peak), &plan, None).unwrap();
        prop_assert!(got.memory.request.as_f64() >= memory[3] * 1_048_576.0);
    }
}
