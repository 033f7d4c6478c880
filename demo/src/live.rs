//! Frames in the terminal: drawn over one another on a terminal, one line each elsewhere.

use crate::frame::Frame;
use crate::report::Report;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// Shows frames at the pace of the display.
pub struct Screen {
    headless: bool,
    terminal: bool,
    day: Duration,
    seed: u64,
    began: Instant,
    /// Why each change was made, as it was said when the change was first seen.
    why: BTreeMap<(String, jiff::Timestamp), String>,
}

const DAY: Duration = Duration::from_hours(24);
const GIB: f64 = (1u64 << 30) as f64;

impl Screen {
    /// A screen on which a simulated day takes `day`; a headless one shows nothing and does not wait.
    pub fn new(headless: bool, day: Duration, seed: u64) -> Self {
        let terminal = std::io::stdout().is_terminal();
        Self { headless, terminal, day, seed, began: Instant::now(), why: BTreeMap::new() }
    }

    /// Shows a frame, then holds the simulated clock until the frame is due.
    pub fn show(&mut self, frame: &mut Frame) {
        if self.headless {
            return;
        }
        for change in &mut frame.changes {
            let said = self.why.entry((change.workload.clone(), change.at)).or_insert_with(|| change.why.clone());
            change.why.clone_from(said);
        }
        let text = if self.terminal { format!("\x1b[H\x1b[2J{}", picture(frame, self.seed)) } else { line(frame) };
        // A closed terminal is no reason to stop the simulation.
        let _ = std::io::stdout().write_all(text.as_bytes());
        let _ = std::io::stdout().flush();
        let due = self.day.mul_f64(frame.passed.as_secs_f64() / DAY.as_secs_f64());
        // The simulation runs on this thread alone: sleeping holds its clock.
        std::thread::sleep(due.saturating_sub(self.began.elapsed()));
    }
}

fn line(frame: &Frame) -> String {
    let freed = Freed::of(frame);
    let newest = frame.changes.first().filter(|change| frame.now.duration_since(change.at).as_mins() < 10);
    let newest = newest.map_or(String::new(), |c| format!("  {} {} {}", c.method, c.workload, c.sizes.join(", ")));
    format!(
        "{}  {} containers, {} samples  freed {:.1} cores, {:.1} GiB{newest}\n",
        frame.now.strftime("%H:%M"),
        frame.learned.0,
        frame.learned.1,
        freed.cores,
        freed.gib
    )
}

struct Freed {
    cores: f64,
    gib: f64,
}

impl Freed {
    fn of(frame: &Frame) -> Self {
        let cores = (frame.before.cpu_millicores as f64 - frame.requested.cpu_millicores as f64) / 1000.0;
        Self { cores, gib: (frame.before.memory_bytes as f64 - frame.requested.memory_bytes as f64) / GIB }
    }
}

/// The whole picture; at most 100 columns and 40 lines.
fn picture(frame: &Frame, seed: u64) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(text, "OptiPod on a simulated cluster: {} pods on 12 nodes, seed {seed}\n", frame.totals.pods);
    let share = (frame.passed.as_secs_f64() / DAY.as_secs_f64()).min(1.0);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // 0 to 48
    let done = (share * 48.0) as usize;
    let _ = writeln!(
        text,
        "{}  {}{}  learned {} containers from {} samples\n",
        frame.now.strftime("%H:%M"),
        "█".repeat(done),
        "░".repeat(48 - done),
        frame.learned.0,
        frame.learned.1
    );
    resources(&mut text, frame);
    recent(&mut text, frame);
    reasons(&mut text, frame);
    text
}

fn resources(text: &mut String, frame: &Frame) {
    let freed = Freed::of(frame);
    let share = |part: f64, whole: f64| if whole > 0.0 { part / whole * 100.0 } else { 0.0 };
    let (cores, gib) = (frame.before.cpu_millicores as f64 / 1000.0, frame.before.memory_bytes as f64 / GIB);
    let _ = writeln!(text, "           requested at 0:00   requested now        used       freed");
    let _ = writeln!(
        text,
        "CPU            {cores:>8.1} cores  {:>8.1} cores  {:>6.1} cores  {:>6.1} cores ({:.0} %)",
        cores - freed.cores,
        frame.totals.used_cpu,
        freed.cores,
        share(freed.cores, cores)
    );
    let _ = writeln!(
        text,
        "memory         {gib:>8.1} GiB    {:>8.1} GiB    {:>6.1} GiB    {:>6.1} GiB   ({:.0} %)\n",
        gib - freed.gib,
        frame.totals.used_memory / GIB,
        freed.gib,
        share(freed.gib, gib)
    );
}

fn recent(text: &mut String, frame: &Frame) {
    let _ = writeln!(text, "Last changes ({} workloads changed so far), CPU/memory per replica", frame.changes.len());
    if frame.changes.is_empty() {
        let _ = writeln!(text, "  none yet: OptiPod learns; a request is lowered once usage covers the whole window");
    }
    for change in frame.changes.iter().take(5) {
        let at = change.at.strftime("%H:%M");
        let _ =
            writeln!(text, "  {at} {:<8}{:<26}{}", change.method, change.workload, clip(&change.sizes.join(", "), 70));
        let _ = writeln!(text, "        {}", clip(&change.why, 104));
    }
}

fn reasons(text: &mut String, frame: &Frame) {
    let _ = writeln!(text, "\nWorkloads left as they are, by reason");
    for (reason, count, message) in frame.held.iter().take(8) {
        let _ = writeln!(text, "  {count:>3}  {reason:<20}{}", clip(message, 88));
    }
}

/// At most `width` characters.
fn clip(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width - 1).chain(['…']).collect()
}

/// The closing words.
pub fn summary(report: &Report) -> String {
    let totals = &report.totals;
    let cores = |millicores: u64| millicores as f64 / 1000.0;
    let gib = |bytes: u64| bytes as f64 / GIB;
    let errors: Vec<f64> = report
        .containers
        .iter()
        .flat_map(|r| [r.error.cpu, r.error.memory])
        .flat_map(|q| [q.p50, q.p90, q.p99])
        .collect();
    let mean = errors.iter().sum::<f64>() / (errors.len().max(1) as f64);
    let mut text = String::new();
    let _ = writeln!(
        text,
        "\nAfter {} hours: {} workloads, {} containers, {} samples",
        report.simulated_seconds / 3600,
        totals.workloads,
        totals.containers,
        totals.samples
    );
    let _ = writeln!(
        text,
        "  CPU requests     {:.1} → {:.1} cores",
        cores(totals.cpu_millicores_before),
        cores(totals.cpu_millicores_after)
    );
    let _ = writeln!(
        text,
        "  memory requests  {:.1} → {:.1} GiB",
        gib(totals.memory_bytes_before),
        gib(totals.memory_bytes_after)
    );
    let _ = writeln!(
        text,
        "  OOM kills        {} without OptiPod, {} with it",
        totals.oom_kills_before, totals.oom_kills_after
    );
    let _ = writeln!(
        text,
        "  changes          {} steps on {} workloads ({})",
        totals.applied,
        totals.changed_workloads,
        list(&totals.applied_by_method)
    );
    let _ = writeln!(text, "  percentiles      {:.2} % from the exact ones on average", mean * 100.0);
    text
}

fn list(counts: &BTreeMap<String, u64>) -> String {
    counts.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
}
