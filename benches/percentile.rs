//! The percentile core against the crates `tdigest` and `hdrhistogram`, in one run, so that the
//! ratios hold on any machine. Values are what a container's CPU looks like: lognormal, in cores.
//!
//! `encode` and `decode` have `crate-hdrhistogram` with the crate's own format V2, and no `crate-tdigest`: that crate has
//! no form of its own, and its serde feature pins syn, quote and proc-macro2 to versions that others here are beyond.
#![allow(clippy::unwrap_used, missing_docs)]

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer as _, V2Serializer};
use optipod_storage::{LogLinear, LogLinearBuilder, Sketch, TDigest, TDigestBuilder};

const SLOT_SAMPLES: usize = 240;
const SLOTS: usize = 24;
/// Series in the benches that leave the caches.
const SERIES: usize = 100_000;
/// Samples of five minutes: what an open slot holds.
const OPEN_SAMPLES: usize = 20;
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

fn log_linear_slots() -> Vec<LogLinear> {
    values(SLOTS * SLOT_SAMPLES).chunks(SLOT_SAMPLES).map(|slot| LogLinear::from_values(slot).unwrap()).collect()
}

/// The bytes of each slot.
fn encoded<S>(slots: &[S], mut encode: impl FnMut(&S, &mut Vec<u8>)) -> Vec<Vec<u8>> {
    let bytes = |slot: &S| {
        let mut out = Vec::new();
        encode(slot, &mut out);
        out
    };
    slots.iter().map(bytes).collect()
}

fn three(quantile: impl Fn(f64) -> f64) -> [f64; 3] {
    [0.5, 0.9, 0.99].map(quantile)
}

/// One value into one sketch that is hot in the cache.
fn insert_hot<T>(c: &mut Criterion, id: &str, new: impl Fn() -> T, insert: impl Fn(&mut T, f64)) {
    let values = values(4096);
    let mut next = values.iter().copied().cycle();
    let mut hot = new();
    c.benchmark_group("insert").bench_function(BenchmarkId::new(id, "hot"), |b| {
        b.iter(|| insert(&mut hot, black_box(next.next().unwrap())));
    });
}

/// Round and round into 100,000 sketches. They are filled unequally first, so that the share of
/// inserts that merge a full buffer is that of long service.
fn insert_100k<T>(c: &mut Criterion, id: &str, new: impl Fn() -> T, insert: impl Fn(&mut T, f64)) {
    let values = values(4096);
    let mut next = values.iter().copied().cycle();
    let mut all: Vec<T> = (0..SERIES).map(|_| new()).collect();
    for (i, sketch) in all.iter_mut().enumerate() {
        let filled = 512 + i * 37 % 512;
        values.iter().cycle().skip(i % values.len()).take(filled).for_each(|value| insert(sketch, *value));
    }
    let mut at = 0;
    c.benchmark_group("insert").bench_function(BenchmarkId::new(id, "100k"), |b| {
        b.iter(|| {
            insert(&mut all[at], black_box(next.next().unwrap()));
            at = (at + 1) % SERIES;
        });
    });
}

/// The hot ones first: in a heap that has held 100,000 sketches they are slower.
fn insert(c: &mut Criterion) {
    let digest = |sketch: &mut TDigestBuilder, value| sketch.insert(value).unwrap();
    let log_linear = |sketch: &mut LogLinearBuilder, value| sketch.insert(value).unwrap();
    let hdr = |histogram: &mut Histogram<u32>, value| histogram.record(hdr_value(value)).unwrap();
    insert_hot(c, "log-linear", LogLinearBuilder::default, log_linear);
    insert_hot(c, "t-digest", || TDigestBuilder::new(50.0), digest);
    insert_hot(c, "crate-hdrhistogram", || Histogram::new(2).unwrap(), hdr);
    insert_hot(c, "crate-tdigest", || tdigest::TDigest::new_with_size(100), tdigest::TDigest::push);
    insert_100k(c, "log-linear", LogLinearBuilder::default, log_linear);
    insert_100k(c, "t-digest", || TDigestBuilder::new(50.0), digest);
    insert_100k(c, "crate-hdrhistogram", || Histogram::new(2).unwrap(), hdr);
    insert_100k(c, "crate-tdigest", || tdigest::TDigest::new_with_size(100), tdigest::TDigest::push);
}

fn merged_quantiles<S: Sketch>(slots: &[S]) -> [f64; 3] {
    let parts: Vec<&S> = slots.iter().collect();
    let merged = S::merged(&parts).unwrap();
    three(|q| merged.quantile(q))
}

/// Decoded slots, encoded ones, all of them merged before, and that with the open slot.
fn window_of<S: Sketch>(c: &mut Criterion, id: &str, slots: &[S], open: &S) {
    let (bytes, cached) = (encoded(slots, S::encode), S::merged(&slots.iter().collect::<Vec<_>>()).unwrap());
    let mut group = c.benchmark_group("window_24h");
    group.bench_function(BenchmarkId::new(id, "decoded"), |b| b.iter(|| merged_quantiles(black_box(slots))));
    group.bench_function(BenchmarkId::new(id, "encoded"), |b| {
        b.iter(|| {
            let slots: Vec<S> = bytes.iter().map(|b| S::decode(black_box(b)).unwrap()).collect();
            merged_quantiles(&slots)
        });
    });
    group.bench_function(BenchmarkId::new(id, "cached"), |b| b.iter(|| three(|q| black_box(&cached).quantile(q))));
    group.bench_function(BenchmarkId::new(id, "cached-and-open"), |b| {
        b.iter(|| {
            let merged = S::merged(&[black_box(&cached), open]).unwrap();
            three(|q| merged.quantile(q))
        });
    });
    group.finish();
}

/// P50, P90 and P99 over 24 one-hour slots of 240 samples.
fn window_24h(c: &mut Criterion) {
    let mut open = values(OPEN_SAMPLES);
    window_of(c, "log-linear", &log_linear_slots(), &LogLinear::from_values(&open).unwrap());
    window_of(c, "t-digest", &own_slots(), &TDigest::from_values(&mut open, 50.0).unwrap());
    let (theirs, hdr) = (crate_slots(), hdr_slots());
    let mut group = c.benchmark_group("window_24h");
    group.bench_function("crate-tdigest", |b| {
        // It takes them by value; the copies that this asks for are not counted.
        let merged_quantiles = |slots| {
            let merged = tdigest::TDigest::merge_digests(slots);
            three(|q| merged.estimate_quantile(q).unwrap())
        };
        b.iter_batched(|| theirs.clone(), merged_quantiles, BatchSize::SmallInput);
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
fn merge_of<S: Sketch>(c: &mut Criterion, id: &str, slots: &[S]) {
    let window = S::merged(&slots.iter().collect::<Vec<_>>()).unwrap();
    c.benchmark_group("merge").bench_function(id, |b| {
        b.iter(|| S::merged(&[black_box(&window), black_box(&slots[0])]).unwrap());
    });
}

fn merge(c: &mut Criterion) {
    merge_of(c, "t-digest", &own_slots());
    merge_of(c, "log-linear", &log_linear_slots());
    let mut group = c.benchmark_group("merge");
    let theirs = crate_slots();
    let window = tdigest::TDigest::merge_digests(theirs.clone());
    group.bench_function("crate-tdigest", |b| {
        let both = || vec![window.clone(), theirs[0].clone()];
        b.iter_batched(both, tdigest::TDigest::merge_digests, BatchSize::SmallInput);
    });
    let hdr = hdr_slots();
    group.bench_function("crate-hdrhistogram", |b| {
        b.iter(|| {
            let mut window = black_box(&hdr[1]).clone();
            window.add(black_box(&hdr[0])).unwrap();
            window
        });
    });
    group.finish();
}

/// One slot after the other, so that no branch is learnt by heart.
fn encode_of<S>(c: &mut Criterion, id: &str, slots: &[S], mut encode: impl FnMut(&S, &mut Vec<u8>)) {
    let mut out = Vec::with_capacity(4096);
    let mut next = slots.iter().cycle();
    c.benchmark_group("encode").bench_function(id, |b| {
        b.iter(|| {
            out.clear();
            encode(black_box(next.next().unwrap()), &mut out);
            out.len()
        });
    });
}

fn decode_of<S>(c: &mut Criterion, id: &str, bytes: &[Vec<u8>], mut decode: impl FnMut(&[u8]) -> S) {
    let mut next = bytes.iter().cycle();
    c.benchmark_group("decode").bench_function(id, |b| b.iter(|| decode(black_box(next.next().unwrap()))));
}

/// It keeps the buffer that it works in, as its documentation asks for.
fn hdr_encoder() -> impl FnMut(&Histogram<u32>, &mut Vec<u8>) {
    let mut serializer = V2Serializer::new();
    move |histogram, out| _ = serializer.serialize(histogram, out).unwrap()
}

fn encode(c: &mut Criterion) {
    encode_of(c, "t-digest", &own_slots(), TDigest::encode);
    encode_of(c, "log-linear", &log_linear_slots(), LogLinear::encode);
    encode_of(c, "crate-hdrhistogram", &hdr_slots(), hdr_encoder());
}

fn decode(c: &mut Criterion) {
    decode_of(c, "t-digest", &encoded(&own_slots(), TDigest::encode), |bytes| TDigest::decode(bytes).unwrap());
    let log_linear = encoded(&log_linear_slots(), LogLinear::encode);
    decode_of(c, "log-linear", &log_linear, |bytes| LogLinear::decode(bytes).unwrap());
    let (hdr, mut deserializer) = (encoded(&hdr_slots(), hdr_encoder()), Deserializer::new());
    decode_of(c, "crate-hdrhistogram", &hdr, |mut bytes| deserializer.deserialize::<u32, _>(&mut bytes).unwrap());
}

criterion_group!(percentile, insert, window_24h, merge, encode, decode);
criterion_main!(percentile);
