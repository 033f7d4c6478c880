//! The percentile core against the crates `tdigest` and `hdrhistogram`, in one run, so that the
//! ratios hold on any machine. Values are what a container's CPU looks like: lognormal, in cores.
#![allow(clippy::unwrap_used, missing_docs)]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use hdrhistogram::Histogram;
use optipod_storage::{Sketch, TDigest, TDigestBuilder};

const SLOT_SAMPLES: usize = 240;
const SLOTS: usize = 24;
/// `hdrhistogram` counts integers: a ten-thousandth of a core.
const HDR_UNIT: f64 = 10_000.0;

/// Lognormal values from a fixed linear congruential generator: the same on every machine.
fn values(n: usize) -> Vec<f64> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut uniform = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    };
    let normal = move |u: f64, v: f64| (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos();
    (0..n).map(|_| 0.05 * (0.6 * normal(uniform(), uniform())).exp()).collect()
}

fn own_slots() -> Vec<TDigest> {
    let values = values(SLOTS * SLOT_SAMPLES);
    let slots = values.chunks(SLOT_SAMPLES);
    slots.map(|slot| TDigest::from_values(&mut slot.to_vec(), 50.0).unwrap()).collect()
}

fn crate_slots() -> Vec<tdigest::TDigest> {
    let values = values(SLOTS * SLOT_SAMPLES);
    let slots = values.chunks(SLOT_SAMPLES);
    slots.map(|slot| tdigest::TDigest::new_with_size(100).merge_unsorted(slot.to_vec())).collect()
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // positive and small
fn hdr_value(value: f64) -> u64 {
    (value * HDR_UNIT) as u64
}

fn hdr_of(values: &[f64]) -> Histogram<u32> {
    let mut histogram = Histogram::new(2).unwrap();
    for value in values {
        histogram.record(hdr_value(*value)).unwrap();
    }
    histogram
}

fn hdr_slots() -> Vec<Histogram<u32>> {
    values(SLOTS * SLOT_SAMPLES).chunks(SLOT_SAMPLES).map(hdr_of).collect()
}

fn encoded(slots: &[TDigest]) -> Vec<Vec<u8>> {
    let bytes = |slot: &TDigest| {
        let mut out = Vec::new();
        slot.encode(&mut out);
        out
    };
    slots.iter().map(bytes).collect()
}

fn three(quantile: impl Fn(f64) -> f64) -> [f64; 3] {
    [0.5, 0.9, 0.99].map(quantile)
}

/// One value into a sketch that is hot in the cache; a full buffer's merge is part of it.
fn insert(c: &mut Criterion) {
    let values = values(4096);
    let mut group = c.benchmark_group("insert");
    let mut next = values.iter().cycle();
    let mut builder = TDigestBuilder::new(50.0);
    group.bench_function("t-digest", |b| {
        b.iter(|| builder.insert(black_box(*next.next().unwrap())));
    });
    let mut digest = tdigest::TDigest::new_with_size(100);
    group.bench_function("crate-tdigest", |b| {
        b.iter(|| digest.push(black_box(*next.next().unwrap())));
    });
    let mut histogram = Histogram::<u32>::new(2).unwrap();
    group.bench_function("crate-hdrhistogram", |b| {
        b.iter(|| histogram.record(hdr_value(black_box(*next.next().unwrap()))));
    });
    group.finish();
}

fn merged_quantiles(slots: &[TDigest]) -> [f64; 3] {
    let parts: Vec<&TDigest> = slots.iter().collect();
    let merged = TDigest::merged(&parts).unwrap();
    three(|q| merged.quantile(q))
}

/// P50, P90 and P99 over 24 one-hour slots of 240 samples, nothing cached.
fn window_24h(c: &mut Criterion) {
    let (own, theirs, hdr) = (own_slots(), crate_slots(), hdr_slots());
    let bytes = encoded(&own);
    let mut group = c.benchmark_group("window_24h");
    group.bench_function("t-digest", |b| b.iter(|| merged_quantiles(black_box(&own))));
    group.bench_function("t-digest-from-bytes", |b| {
        b.iter(|| {
            let slots: Vec<TDigest> = bytes.iter().map(|b| TDigest::decode(black_box(b)).unwrap()).collect();
            merged_quantiles(&slots)
        });
    });
    group.bench_function("crate-tdigest", |b| {
        b.iter(|| {
            let merged = tdigest::TDigest::merge_digests(black_box(&theirs).clone());
            three(|q| merged.estimate_quantile(q).unwrap())
        });
    });
    group.bench_function("crate-hdrhistogram", |b| {
        b.iter(|| {
            let mut merged = Histogram::<u32>::new(2).unwrap();
            for slot in black_box(&hdr) {
                merged.add(slot).unwrap();
            }
            three(|q| merged.value_at_quantile(q) as f64)
        });
    });
    group.finish();
}

/// A cached window and one more slot.
fn merge(c: &mut Criterion) {
    let own = own_slots();
    let window = TDigest::merged(&own.iter().collect::<Vec<_>>()).unwrap();
    let mut group = c.benchmark_group("merge");
    group.bench_function("t-digest", |b| {
        b.iter(|| TDigest::merged(&[black_box(&window), black_box(&own[0])]).unwrap());
    });
    let theirs = crate_slots();
    let window = tdigest::TDigest::merge_digests(theirs.clone());
    group.bench_function("crate-tdigest", |b| {
        b.iter(|| tdigest::TDigest::merge_digests(vec![black_box(&window).clone(), theirs[0].clone()]));
    });
    group.finish();
}

fn encode(c: &mut Criterion) {
    let own = own_slots();
    let mut group = c.benchmark_group("encode");
    let mut out = Vec::with_capacity(4096);
    group.bench_function("t-digest", |b| {
        b.iter(|| {
            out.clear();
            black_box(&own[0]).encode(&mut out);
            out.len()
        });
    });
    group.finish();
}

fn decode(c: &mut Criterion) {
    let bytes = encoded(&own_slots());
    let mut group = c.benchmark_group("decode");
    group.bench_function("t-digest", |b| {
        b.iter(|| TDigest::decode(black_box(&bytes[0])).unwrap());
    });
    group.finish();
}

criterion_group!(percentile, insert, window_24h, merge, encode, decode);
criterion_main!(percentile);
