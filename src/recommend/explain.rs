//! The sentence that tells where a recommendation comes from.

use super::{PEAK_MARGIN, Sized, Step};
use crate::policy::MetricsPlan;
use crate::policy::duration;
use crate::quantity::{Bytes, Millicores};
use crate::usage::WindowUsage;
use std::fmt::Write as _;

/// For example: `CPU 240m = P90 0.200 cores × 1.2; memory 504Mi = P90 210Mi × 1.2 = 252Mi, raised to the peak 480Mi × 1.05; from 5760 samples over 24h`.
pub fn sentence(usage: &WindowUsage, metrics: &MetricsPlan, cpu: &Sized<Millicores>, memory: &Sized<Bytes>) -> String {
    let samples = usage.cpu.samples.min(usage.memory.samples);
    let covered = super::human(usage.covered);
    let window = duration::format(metrics.window);
    let notes = usage.notes.iter().fold(String::new(), |text, note| text + "; " + note);
    format!(
        "CPU {} = {}; memory {} = {}; from {samples} samples covering {covered} of the last {window}{notes}",
        cpu.request,
        steps(&cpu.steps, |cores| format!("{} cores", significant(cores))),
        memory.request,
        steps(&memory.steps, |bytes| format!("{}Mi", significant(bytes / Bytes::MIB as f64))),
    )
}

fn steps(steps: &[Step], amount: impl Fn(f64) -> String) -> String {
    let mut text = String::new();
    for step in steps {
        // Writing to a String cannot fail.
        let _ = match *step {
            Step::Percentile { percentile, value, factor, result } => {
                write!(text, "{percentile:?} {} × {factor} = {}", amount(value), amount(result))
            }
            Step::PeakFloor { peak, result } => {
                write!(text, ", raised to the peak {} × {PEAK_MARGIN} = {}", amount(peak), amount(result))
            }
            Step::OomFloor { floor, result } => write!(
                text,
                ", raised to {} × {} = {}, for it was killed for memory at {} {} ago",
                amount(floor.hit.as_f64()),
                significant(floor.percent as f64 / 100.0),
                amount(result),
                amount(floor.hit.as_f64()),
                super::human(floor.age),
            ),
            Step::RaisedToMin(bound) => write!(text, ", raised to the policy's minimum {}", amount(bound)),
            Step::LoweredToMax(bound) => write!(text, ", lowered to the policy's maximum {}", amount(bound)),
        };
    }
    text
}

/// Three significant digits or all digits before the point, whichever is more, without trailing zeros.
fn significant(value: f64) -> String {
    let decimals = match value.abs() {
        v if v >= 100.0 || v == 0.0 => 0,
        v if v >= 10.0 => 1,
        v if v >= 1.0 => 2,
        v if v >= 0.1 => 3,
        _ => 4,
    };
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}
