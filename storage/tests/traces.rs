//! Accuracy on real traces, each recorded point taken as one 15-second sample. The traces are not
//! part of the project: without them this says so and passes.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]
// Ranks are small.
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use optipod_storage::{Sketch, TDigest};

const SLOT: usize = 240;
const SLOTS: usize = 24;
/// Windows looked at in each file and resource, evenly spread.
const WINDOWS: usize = 25;

fn folder() -> PathBuf {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/traces");
    std::env::var_os("OPTIPOD_TRACES").map_or_else(|| beside.into(), PathBuf::from)
}

/// The CPU and memory columns, one list of values a series.
fn columns(path: &Path) -> Option<[BTreeMap<String, Vec<f64>>; 2]> {
    let output = Command::new("gzip").arg("-dc").arg(path).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let mut columns = [BTreeMap::new(), BTreeMap::<String, Vec<f64>>::new()];
    for line in text.lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        for (column, field) in columns.iter_mut().zip(fields.get(2..)?) {
            if let Ok(value) = field.parse::<f64>() {
                column.entry(fields[0].to_owned()).or_default().push(value.max(0.0));
            }
        }
    }
    Some(columns)
}

fn stored(slot: &[f64]) -> TDigest {
    let mut bytes = Vec::new();
    TDigest::from_values(&mut slot.to_vec(), 50.0).unwrap().encode(&mut bytes);
    TDigest::decode(&bytes).unwrap()
}

/// Relative errors of P50, P90 and P99 of a window against the exact ones.
fn errors(window: &[f64]) -> Vec<f64> {
    let slots: Vec<TDigest> = window.chunks(SLOT).map(stored).collect();
    let merged = TDigest::merged(&slots.iter().collect::<Vec<_>>()).unwrap();
    let mut exact = window.to_vec();
    exact.sort_by(f64::total_cmp);
    let error = |q: f64| {
        // The exact quantile lies between two neighbouring samples.
        let rank = q * exact.len() as f64;
        let low = exact[(rank - 1.0).max(0.0) as usize];
        let high = exact[(rank as usize).min(exact.len() - 1)];
        let got = merged.quantile(q);
        let off = (low - got).max(got - high).max(0.0);
        if off < 1e-6 { 0.0 } else { off / low.max(1e-6) }
    };
    [0.5, 0.9, 0.99].map(error).to_vec()
}

#[test]
fn quantiles_of_real_windows_are_within_the_bar() {
    let folder = folder();
    let Ok(entries) = std::fs::read_dir(&folder) else {
        println!("skipped: no traces in {} (set OPTIPOD_TRACES)", folder.display());
        return;
    };
    let mut all = Vec::new();
    let mut paths: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).collect();
    paths.retain(|path| std::fs::metadata(path).unwrap().len() < 2_000_000); // the time budget
    paths.sort();
    for path in paths {
        let Some(columns) = columns(&path) else {
            continue;
        };
        for (resource, column) in ["cpu", "memory"].iter().zip(columns) {
            let windows: Vec<&[f64]> = column
                .values()
                .flat_map(|v| v.chunks(SLOT * SLOTS))
                .filter(|window| window.len() >= 2 * SLOT)
                .collect();
            let step = (windows.len() / WINDOWS).max(1);
            let found: Vec<f64> = windows.iter().step_by(step).flat_map(|w| errors(w)).collect();
            if !found.is_empty() {
                let mean = found.iter().sum::<f64>() / found.len() as f64;
                println!("{} {resource}: mean {:.2} % of {}", path.display(), mean * 100.0, found.len());
                all.extend(found);
            }
        }
    }
    if all.is_empty() {
        println!("skipped: nothing could be read from {} (is gzip there?)", folder.display());
        return;
    }
    let mean = all.iter().sum::<f64>() / all.len() as f64;
    println!("mean error {:.3} % of {} ({SLOTS} slots at most)", mean * 100.0, all.len());
    assert!(mean <= 0.008, "mean error {mean}");
}
