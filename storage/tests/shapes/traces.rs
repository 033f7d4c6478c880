//! Recorded usage, which is not part of the project: `$OPTIPOD_TRACES`, or `../shared/traces`
//! beside the repository. Files are `series,time,cpu,memory` as gzipped CSV.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{SLOT, SLOTS};

/// The folder, whether it is there or not.
pub fn folder() -> PathBuf {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/traces");
    std::env::var_os("OPTIPOD_TRACES").map_or_else(|| beside.into(), PathBuf::from)
}

/// The files by name; none where the folder is not there.
pub fn files() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder()).into_iter().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).collect();
    paths.sort();
    paths
}

/// CPU and memory, one list of values a series; `None` where it cannot be read.
pub fn columns(path: &Path) -> Option<[BTreeMap<String, Vec<f64>>; 2]> {
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

/// At most `limit` windows of two to 24 slots, evenly spread, and how many there are; each recorded
/// point is one sample.
pub fn windows(column: &BTreeMap<String, Vec<f64>>, limit: usize) -> (Vec<&[f64]>, usize) {
    let all = column.values().flat_map(|v| v.chunks(SLOT * SLOTS));
    let windows: Vec<&[f64]> = all.filter(|window| window.len() > SLOT).collect();
    let (there, step) = (windows.len(), windows.len().div_ceil(limit).max(1));
    (windows.into_iter().step_by(step).collect(), there)
}
