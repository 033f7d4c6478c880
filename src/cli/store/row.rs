//! A slot's row as people read it, and as a line of JSON that is read again.
//!
//! The figures are for people; the sketches are what is read. Invariant: a line that was written reads as the same row.

use super::iso;
use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use optipod_storage::{AnySketch, FORMAT_VERSION, SeriesKey, Sketch as _, SlotKind, SlotRow, Timestamp};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

#[derive(Serialize)]
struct Figures {
    min: f64,
    p50: f64,
    p90: f64,
    p95: f64,
    p99: f64,
    max: f64,
    mean: f64,
}

impl Figures {
    fn of(values: &AnySketch) -> Self {
        let [p50, p90, p95, p99] = [0.5, 0.9, 0.95, 0.99].map(|q| values.quantile(q));
        #[allow(clippy::cast_precision_loss)] // as the store's own mean
        let mean = values.sum() / values.count() as f64;
        Self { min: values.min(), p50, p90, p95, p99, max: values.max(), mean }
    }

    fn csv(&self) -> String {
        let Self { min, p50, p90, p95, p99, max, mean } = self;
        format!("{min},{p50},{p90},{p95},{p99},{max},{mean}")
    }
}

pub(super) const CSV_HEADER: &str = "namespace,kind,workload,container,from,to,covered_seconds,samples,\
    cpu_min,cpu_p50,cpu_p90,cpu_p95,cpu_p99,cpu_max,cpu_mean,\
    memory_min,memory_p50,memory_p90,memory_p95,memory_p99,memory_max,memory_mean";

/// Kubernetes names hold neither commas nor quotes.
pub(super) fn csv(row: &SlotRow) -> String {
    let SeriesKey { namespace, kind, workload, container } = &row.key;
    let (from, to, samples) = (iso(row.first), iso(row.last), row.cpu.count());
    let (cpu, memory) = (Figures::of(&row.cpu).csv(), Figures::of(&row.memory).csv());
    let covered = covered_seconds(row);
    format!("{namespace},{kind},{workload},{container},{from},{to},{covered},{samples},{cpu},{memory}")
}

fn covered_seconds(row: &SlotRow) -> u64 {
    u64::from(row.filled) * SlotKind::FiveMinutes.length().as_secs()
}

/// What is read of a line.
#[derive(Serialize, Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    namespace: Cow<'a, str>,
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    workload: Cow<'a, str>,
    #[serde(borrow)]
    container: Cow<'a, str>,
    #[serde(borrow)]
    slot: Cow<'a, str>,
    start: jiff::Timestamp,
    from: jiff::Timestamp,
    to: jiff::Timestamp,
    covered_seconds: u64,
    /// The version of the store's format, which says how sketches are encoded.
    format: u16,
    #[serde(borrow)]
    cpu_sketch: Cow<'a, str>,
    #[serde(borrow)]
    memory_sketch: Cow<'a, str>,
}

/// What is written.
#[derive(Serialize)]
struct FullLine<'a> {
    #[serde(flatten)]
    line: Line<'a>,
    samples: u64,
    cpu_cores: Figures,
    memory_bytes: Figures,
}

pub(super) fn to_json(row: &SlotRow) -> anyhow::Result<String> {
    let line = Line {
        namespace: row.key.namespace.as_str().into(),
        kind: row.key.kind.as_str().into(),
        workload: row.key.workload.as_str().into(),
        container: row.key.container.as_str().into(),
        slot: name(row.kind).into(),
        start: jiff::Timestamp::from_millisecond(row.start.as_millis())?,
        from: jiff::Timestamp::from_millisecond(row.first.as_millis())?,
        to: jiff::Timestamp::from_millisecond(row.last.as_millis())?,
        covered_seconds: covered_seconds(row),
        format: FORMAT_VERSION,
        cpu_sketch: encode(&row.cpu).into(),
        memory_sketch: encode(&row.memory).into(),
    };
    let (cpu_cores, memory_bytes) = (Figures::of(&row.cpu), Figures::of(&row.memory));
    Ok(serde_json::to_string(&FullLine { line, samples: row.cpu.count(), cpu_cores, memory_bytes })?)
}

pub(super) fn from_json(line: &str) -> anyhow::Result<SlotRow> {
    let line: Line<'_> =
        serde_json::from_str(line).context("this is not a line of `optipod store export --format jsonl`")?;
    if line.format != FORMAT_VERSION {
        bail!("it is of format {}, this program reads {FORMAT_VERSION}; export with this version", line.format);
    }
    let time = |at: jiff::Timestamp| Timestamp(at.as_millisecond());
    let filled = line.covered_seconds / SlotKind::FiveMinutes.length().as_secs();
    Ok(SlotRow {
        key: SeriesKey {
            namespace: line.namespace.into_owned(),
            kind: line.kind.into_owned(),
            workload: line.workload.into_owned(),
            container: line.container.into_owned(),
        },
        kind: SlotKind::ALL.into_iter().find(|kind| name(*kind) == line.slot).context("slot is not 5m, 1h or 1d")?,
        start: time(line.start),
        first: time(line.from),
        last: time(line.to),
        filled: u32::try_from(filled).context("covered_seconds is too large")?,
        cpu: decode(&line.cpu_sketch).context("cpu_sketch")?,
        memory: decode(&line.memory_sketch).context("memory_sketch")?,
    })
}

fn name(kind: SlotKind) -> &'static str {
    match kind {
        SlotKind::FiveMinutes => "5m",
        SlotKind::Hour => "1h",
        SlotKind::Day => "1d",
    }
}

fn encode(sketch: &AnySketch) -> String {
    let mut bytes = Vec::new();
    sketch.encode(&mut bytes);
    STANDARD.encode(bytes)
}

fn decode(text: &str) -> anyhow::Result<AnySketch> {
    Ok(AnySketch::decode(&STANDARD.decode(text)?)?)
}
