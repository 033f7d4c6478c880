//! Measures both sketches against exact quantiles and writes `storage/ACCURACY.md`:
//! `cargo run --release -p optipod-storage --example accuracy`.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "../tests/shapes/mod.rs"]
mod shapes;

use std::fmt::Write;

use shapes::measure::{Errors, KINDS, invented};
use shapes::{Burst, SHAPES, SLOT, SLOTS, shape, traces};

/// Windows of each shape.
const WINDOWS: u64 = 100;
/// Windows of each data set and resource, at most.
const TRACE_WINDOWS: usize = 400;

const HEAD: &str = "# Accuracy of the sketches

Written by `cargo run --release -p optipod-storage --example accuracy`; do not edit.

Each window is 24 one-hour slots of 240 samples, each slot summarised, stored, read back and merged
as the store does it. The error is that of P50, P90 and P99 against the exact quantile, relative to
it; an answer between the two samples around the rank has none. Bytes are those of one stored hour of
one resource.
";

type Row = (String, [Errors; 2]);

fn main() {
    let mut out = HEAD.to_owned();
    let shapes: Vec<Row> = SHAPES.iter().map(|name| measure_shape(name)).collect();
    table(&mut out, &format!("Distributions, {WINDOWS} windows each"), &shapes);
    let recorded: Vec<Row> = traces::files().iter().flat_map(|path| measure_trace(path)).collect();
    if recorded.is_empty() {
        println!("no traces in {} (set OPTIPOD_TRACES): their table is left out", traces::folder().display());
    } else {
        table(&mut out, "Recorded usage, each point one sample", &[recorded.clone(), vec![all(&recorded)]].concat());
        let _ =
            writeln!(out, "\nA container-day of hours, CPU and memory, sketches only: {}.", container_day(&recorded));
    }
    sweeps(&mut out);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/ACCURACY.md");
    std::fs::write(path, &out).unwrap();
    println!("{out}");
}

fn measure(name: String, windows: &[&[f64]]) -> Row {
    let mut errors = [Errors::default(); 2];
    for (errors, (kind, _)) in errors.iter_mut().zip(KINDS) {
        for window in windows {
            errors.add(kind, window);
        }
    }
    (name, errors)
}

fn measure_shape(name: &str) -> Row {
    let windows: Vec<Vec<f64>> = (0..WINDOWS).map(|seed| shape(name, SLOT * SLOTS, seed)).collect();
    measure(name.to_owned(), &windows.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

fn measure_trace(path: &std::path::Path) -> Vec<Row> {
    let name = path.file_name().unwrap().to_string_lossy().replace(".csv.gz", "");
    let columns = traces::columns(path).unwrap_or_default();
    let of = |(resource, column)| {
        let (windows, _) = traces::windows(column, TRACE_WINDOWS);
        (!windows.is_empty()).then(|| measure(format!("{name}, {resource}"), &windows))
    };
    ["CPU", "memory"].into_iter().zip(&columns).filter_map(of).collect()
}

fn all(rows: &[Row]) -> Row {
    let sum = |kind: usize| {
        rows.iter().map(|(_, errors)| errors[kind]).fold(Errors::default(), |a, b| Errors {
            count: a.count + b.count,
            sum: a.sum + b.sum,
            max: a.max.max(b.max),
            bytes: a.bytes + b.bytes,
            slots: a.slots + b.slots,
        })
    };
    ("**all**".to_owned(), [sum(0), sum(1)])
}

fn container_day(rows: &[Row]) -> String {
    let of = |resource: &str, kind: usize| {
        let rows: Vec<Row> = rows.iter().filter(|(name, _)| name.ends_with(resource)).cloned().collect();
        24.0 * all(&rows).1[kind].bytes_per_slot()
    };
    let day = |kind| (of("CPU", kind) + of("memory", kind)) / 1000.0;
    format!("t-digest {:.2} KB, log-linear {:.2} KB", day(0), day(1))
}

fn table(out: &mut String, title: &str, rows: &[Row]) {
    let _ = writeln!(out, "\n## {title}\n");
    let _ = writeln!(out, "| | t-digest mean / max | log-linear mean / max | bytes t-digest / log-linear | answers |");
    let _ = writeln!(out, "|---|---|---|---|---|");
    for (name, [digest, histogram]) in rows {
        let both = |e: &Errors| format!("{:.3} % / {:.2} %", 100.0 * e.mean(), 100.0 * e.max);
        let bytes = format!("{:.1} / {:.1}", digest.bytes_per_slot(), histogram.bytes_per_slot());
        let _ = writeln!(out, "| {name} | {} | {} | {bytes} | {} |", both(digest), both(histogram), digest.count);
    }
}

fn sweeps(out: &mut String) {
    out.push_str(
        "\n## Burst sweeps\n\nIdle at 0.002 cores with bursts, the share of bursts swept in 120 steps around each of P50, P90 and
P99: how many answers no sample is near to, and how far the worst lies from the nearest sample.\n\n",
    );
    out.push_str(
        "| | bursts of one core: more than 1 % away | lognormal bursts: more than 5 % away |\n|---|---|---|\n",
    );
    for (kind, name) in KINDS {
        let tell = |(count, of, worst): (usize, usize, f64)| format!("{count} of {of}, worst {:.2} %", 100.0 * worst);
        let (one, lognormal) = (invented(kind, Burst::One, 0.01), invented(kind, Burst::Lognormal, 0.05));
        let _ = writeln!(out, "| {name} | {} | {} |", tell(one), tell(lognormal));
    }
}
