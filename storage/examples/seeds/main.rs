//! Writes the seed corpora of the fuzz targets: valid bytes of each kind, and bent ones.
//!
//! `cargo run -p optipod-storage --example seeds [fuzz/corpus]`. But for the sketches, whose bits
//! only the crate itself packs, valid bytes are put together here by `storage/FORMAT.md` alone; the
//! collector's by Kubernetes' own definitions, imports by what `optipod store import --help` says.
#![allow(clippy::cast_possible_truncation, reason = "small numbers")]

mod import;
mod metrics;

use std::fs;
use std::io;
use std::path::PathBuf;

use optipod_storage::fuzzing::{FORMAT_VERSION, RECORD_KEY};
use optipod_storage::{AnySketch, LogLinear, Sketch, SketchKind, TDigest};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// The series of blocks, and the live ticks of heads: the same in both versions.
const BLOCKS: [&[u32]; 4] = [&[], &[0], &[3, 4, 200], &[1 << 20]];
const TICKS: [&[u64]; 3] = [&[], &[0], &[5, 6, 7, 1 << 33]];
/// Milliseconds of an hour, the slot of blocks.
const HOUR: u64 = 3_600_000;

/// Bent variants of each valid input.
const BENT: u64 = 6;

fn main() -> io::Result<()> {
    let root = PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| "fuzz/corpus".to_owned()));
    for (name, valid) in seeds() {
        let dir = root.join(name);
        if dir.exists() {
            fs::remove_dir_all(&dir)?;
        }
        fs::create_dir_all(&dir)?;
        for (n, bytes) in (0..).zip(&valid) {
            fs::write(dir.join(format!("valid-{n:02}")), bytes)?;
            for m in 0..BENT {
                fs::write(dir.join(format!("bent-{n:02}-{m}")), bent(bytes, n * BENT + m))?;
            }
        }
    }
    for (n, bytes) in import::wrong().into_iter().enumerate() {
        fs::write(root.join("import_lines").join(format!("wrong-{n:02}")), bytes)?;
    }
    Ok(())
}

fn seeds() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let both: Vec<Vec<u8>> = digests().into_iter().zip(histograms()).flat_map(|(a, b)| [a, b]).collect();
    vec![
        ("metrics_protobuf", metrics::protobuf()),
        ("metrics_json", metrics::json()),
        ("metrics_both", metrics::lists()),
        ("import_lines", import::files()),
        ("digest", digests()),
        ("histogram", histograms()),
        ("any_sketch", both),
        ("block", BLOCKS.map(|ids| block(1, ids)).to_vec()),
        ("block_v0", BLOCKS.map(|ids| block(0, ids)).to_vec()),
        (
            "slot_file",
            vec![slot_file(0, 300_000, &[]), slot_file(1, 3_600_000, &[&[7]]), slot_file(2, 0, &[&[1, 2], &[9]])],
        ),
        ("snapshot", vec![snapshot(&[]), snapshot(&[(0, "a")]), snapshot(&[(1, "a"), (5, "ü"), (300, "c")])]),
        ("record", vec![record(&[]), record(b"payload"), record(&rows(&[(1, 5, 9)]))]),
        ("chunk", vec![chunk(0, 7, &[]), chunk(1, 1 << 40, b"streams"), chunk(0, 0, &rows(&[(1, 2, 3)]))]),
        (
            "rows",
            vec![rows(&[]), rows(&[(0, 1_700_000_000, 0)]), rows(&[(5, 1_700_000_015, 1), (4, 1_700_000_000, 8)])],
        ),
        ("streams", vec![streams(&[]), streams(&[(7, 1)]), streams(&[(7, u64::MAX), (3, 0), (1 << 20, 5)])]),
        ("series", vec![series(&[]), series(&[(0, "")]), series(&[(2, "cart"), (2, "x"), (9000, "ledger")])]),
        ("head", [TICKS.map(|ticks| head(Some(0), ticks)).to_vec(), vec![head(Some(31), &[8])]].concat()),
        ("head_v0", TICKS.map(|ticks| head(None, ticks)).to_vec()),
        ("last_tick", [0, 1, 1 << 33, u64::MAX].map(last_tick).to_vec()),
        ("manifest", [0, 1, 1 << 20, u64::MAX].iter().map(|size: &u64| size.to_le_bytes().to_vec()).collect()),
    ]
}

/// Values of several shapes; exact as `code24`.
fn values() -> Vec<Vec<f64>> {
    let curve = |n: u32| (0..n).map(|i| f64::from(i * i % 1000) / 64.0).collect();
    vec![vec![0.0], vec![0.25], vec![1.0, 1.0], vec![0.5, 64.0], curve(12), curve(400)]
}

fn encoded<S: Sketch>(sketch: &S) -> Vec<u8> {
    let mut out = Vec::new();
    sketch.encode(&mut out);
    out
}

fn sketched<S: Sketch>(make: impl Fn(&mut [f64]) -> Option<S>) -> Vec<Vec<u8>> {
    values().iter_mut().filter_map(|values| make(values)).map(|sketch| encoded(&sketch)).collect()
}

fn digests() -> Vec<Vec<u8>> {
    sketched(|values| TDigest::from_values(values, 50.0).ok())
}

fn histograms() -> Vec<Vec<u8>> {
    sketched(|values| LogLinear::from_values(values).ok())
}

fn sketch_of(kind: SketchKind, values: &mut [f64]) -> Vec<u8> {
    AnySketch::from_values(kind, values).map(|sketch| encoded(&sketch)).unwrap_or_default()
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value > 127 {
        out.push((value % 128) as u8 + 128);
        value /= 128;
    }
    out.push(value as u8);
}

fn signed(out: &mut Vec<u8>, value: i64) {
    varint(out, if value < 0 { value.unsigned_abs() * 2 - 1 } else { value.unsigned_abs() * 2 });
}

/// The top 24 bits of an `f32` without its sign, of a value that fits.
fn code24(out: &mut Vec<u8>, value: f32) {
    out.extend((value.to_bits() >> 7).to_le_bytes().get(..3).unwrap_or_default());
}

/// Of a series that had samples in all of an hour.
fn entry(version: u16, number: u32) -> Vec<u8> {
    let mut out = Vec::new();
    let (first, before_end) = (5, u64::from(number % 1000) + 1); // the first and the last sample
    varint(&mut out, first);
    if version == 0 {
        varint(&mut out, HOUR - before_end - first);
    } else {
        varint(&mut out, before_end);
        varint(&mut out, 12);
    }
    let sketch = |kind| sketch_of(kind, &mut [f64::from(number % 16), 8.0]);
    let (cpu, memory) = (sketch(SketchKind::TDigest), sketch(SketchKind::LogLinear));
    varint(&mut out, cpu.len() as u64);
    out.extend(cpu);
    out.extend(memory);
    out
}

fn block(version: u16, ids: &[u32]) -> Vec<u8> {
    let (mut out, mut bodies, mut before) = (Vec::new(), Vec::new(), 0);
    varint(&mut out, ids.len() as u64);
    for id in ids {
        let entry = entry(version, *id);
        varint(&mut out, u64::from(id - before));
        varint(&mut out, entry.len() as u64);
        bodies.extend(entry);
        before = *id;
    }
    out.extend(bodies);
    out
}

fn series(names: &[(u32, &str)]) -> Vec<u8> {
    let (mut out, mut before) = (Vec::new(), 0);
    varint(&mut out, names.len() as u64);
    for (id, name) in names {
        let key = format!("shop\0Deployment\0{name}\0app");
        varint(&mut out, u64::from(id - before));
        signed(&mut out, 1_700_000_000_000 - i64::from(*id));
        varint(&mut out, key.len() as u64);
        out.extend(key.as_bytes());
        before = *id;
    }
    out
}

fn slot_file(kind: u8, start: i64, blocks: &[&[u32]]) -> Vec<u8> {
    let mut header = b"OPTISLOT".to_vec();
    header.extend(FORMAT_VERSION.to_le_bytes());
    header.push(kind);
    header.extend(start.to_le_bytes());
    let (mut out, mut index, mut before) = (header.clone(), Vec::new(), 0);
    varint(&mut index, blocks.len() as u64);
    for ids in blocks {
        let (first, last) = (ids.first().copied().unwrap_or(0), ids.last().copied().unwrap_or(0));
        let bytes = block(1, ids);
        varint(&mut index, u64::from(first - before));
        varint(&mut index, u64::from(last - first));
        varint(&mut index, bytes.len() as u64);
        index.extend(crc32fast::hash(&bytes).to_le_bytes());
        out.extend(bytes);
        before = last;
    }
    let names = series(&[(1, "cart")]);
    varint(&mut index, names.len() as u64);
    index.extend(crc32fast::hash(&names).to_le_bytes());
    out.extend(names);
    out.extend(&index);
    out.extend((index.len() as u32).to_le_bytes());
    out.extend(crc32fast::hash(&[header, index].concat()).to_le_bytes());
    out.extend(b"OPTISLOT");
    out
}

fn snapshot(names: &[(u32, &str)]) -> Vec<u8> {
    let mut out = b"OPTITABL".to_vec();
    out.extend(FORMAT_VERSION.to_le_bytes());
    if !names.is_empty() {
        let part = series(names);
        out.extend((part.len() as u32).to_le_bytes());
        out.extend(crc32fast::hash(&part).to_le_bytes());
        out.extend(part);
    }
    out
}

fn record(payload: &[u8]) -> Vec<u8> {
    let rest = [FORMAT_VERSION.to_le_bytes().as_slice(), payload].concat();
    let crc = crc32fast::hash(&[RECORD_KEY, &rest].concat());
    [crc.to_le_bytes().as_slice(), &rest].concat()
}

/// A frame that fits into one chunk.
fn chunk(part: u8, tick: u64, frame: &[u8]) -> Vec<u8> {
    let mut out = tick.to_le_bytes().to_vec();
    out.push(part);
    for number in [0, 1, crc32fast::hash(frame)] {
        out.extend(number.to_le_bytes());
    }
    out.extend(frame);
    out
}

/// Rows of (stream, Unix seconds, cores and bytes).
fn rows(rows: &[(i64, i64, u8)]) -> Vec<u8> {
    let mut out = 1_700_000_000_000_i64.to_le_bytes().to_vec();
    varint(&mut out, 400); // the epoch
    out.push(1); // whole seconds
    varint(&mut out, rows.len() as u64);
    let (mut stream_before, mut at_before) = (0, 0);
    for (stream, at, value) in rows {
        signed(&mut out, stream - stream_before);
        signed(&mut out, at - at_before);
        code24(&mut out, f32::from(*value));
        code24(&mut out, f32::from(*value) * 1024.0);
        (stream_before, at_before) = (*stream, *at);
    }
    out
}

fn streams(streams: &[(i64, u64)]) -> Vec<u8> {
    let (mut out, mut before) = (Vec::new(), 0);
    for number in [400, 17, streams.len() as u64] {
        varint(&mut out, number);
    }
    for (series, pod) in streams {
        signed(&mut out, series - before);
        out.extend(pod.to_le_bytes());
        before = *series;
    }
    out
}

/// Version 0 did not tell how many sealed slots there are.
fn head(slots: Option<u32>, ticks: &[u64]) -> Vec<u8> {
    let mut out = 77_u64.to_le_bytes().to_vec();
    for number in [Some(40_u32), Some(2), slots].into_iter().flatten() {
        out.extend(number.to_le_bytes());
    }
    varint(&mut out, ticks.len() as u64);
    let before = std::iter::once(&0).chain(ticks);
    for (tick, before) in ticks.iter().zip(before) {
        varint(&mut out, tick - before);
    }
    out
}

fn last_tick(tick: u64) -> Vec<u8> {
    let tick = tick.to_le_bytes();
    [tick.as_slice(), &crc32fast::hash(&tick).to_le_bytes()].concat()
}

/// A bit flipped, an end or a middle gone, something large or random put in.
fn bent(valid: &[u8], n: u64) -> Vec<u8> {
    let mut rng = SmallRng::seed_from_u64(n);
    let mut bytes = valid.to_vec();
    let at = rng.random_range(0..=bytes.len());
    let (head, tail) = valid.split_at(at);
    match n % BENT {
        0 | 1 => bytes.get_mut(at.saturating_sub(1)).into_iter().for_each(|byte| *byte ^= 1 << rng.random_range(0..8)),
        2 => bytes.truncate(at),
        3 => bytes = [head, tail.get(1..).unwrap_or_default()].concat(),
        4 => bytes = [head, &[0xff; 9], &[1], tail].concat(), // a varint of 2^63 and more
        _ => bytes = [head, &rng.random::<[u8; 8]>(), tail].concat(),
    }
    bytes
}
