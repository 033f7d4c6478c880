//! `torture verify`

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use super::Options;
use super::check::{Verdict, judge};
use super::model::{Model, Point, time_of};
use super::write::last_tick;
use optipod_storage::{SeriesInfo, Store, StoreOptions, Timestamp, Usage};

const MINUTES: i64 = 60_000;
const HOUR: i64 = 60 * MINUTES;
const DAY: i64 = 24 * HOUR;
const RETENTION: i64 = 30 * DAY;
/// Wrong answers told one by one.
const TOLD: u64 = 10;

/// What was found.
#[derive(Debug, Default)]
struct Findings {
    wrong: u64,
    lost: u64,
    quarantined: u64,
}

/// Opens a store and compares every answer with the model.
pub fn verify(options: &Options) -> Result<ExitCode, String> {
    let store = Store::open(&options.dir, StoreOptions::default(), time_of(0)).map_err(|e| e.to_string())?;
    let series = store.series(None, usize::MAX);
    let containers = series.first().and_then(|info| Model::containers_of(&info.key)).unwrap_or(0);
    let model = options.model(containers);
    let tick = last_tick(&store);
    let mut findings = Findings::default();
    if tick.is_some() && series.is_empty() {
        findings.lost = 1; // at least: each tick has samples
    }
    if let Some(last) = tick {
        let mut checker = Checker { store: &store, now: time_of(last), findings: &mut findings };
        checker.list(&model, &series, last);
        for container in (0..containers).step_by(options.every as usize) {
            checker.container(&model, container, last);
        }
    }
    let problems = store.status(time_of(0)).problems;
    findings.quarantined = (problems.len() as u64).max(set_aside(&options.dir));
    for problem in problems {
        eprintln!("problem {problem}");
    }
    print(tick, series.len(), &findings);
    let behind = options.acked.is_some_and(|acked| tick.is_none_or(|last| last < acked));
    if behind {
        eprintln!("tick {:?} was acknowledged, {tick:?} is the last", options.acked);
    }
    Ok(ExitCode::from(exit_code(&findings, behind)))
}

fn exit_code(findings: &Findings, behind: bool) -> u8 {
    match (findings.wrong, findings.quarantined) {
        (0, 0) if findings.lost == 0 && !behind => 0,
        (0, reported) if reported > 0 => 2,
        _ => 1,
    }
}

fn print(tick: Option<u64>, series: usize, findings: &Findings) {
    let tick = tick.map_or("null".to_owned(), |tick| tick.to_string());
    let Findings { wrong, lost, quarantined } = findings;
    println!(
        "{{\"last_tick\":{tick},\"series\":{series},\"wrong\":{wrong},\"quarantined\":{quarantined},\"lost\":{lost}}}"
    );
}

/// What the store has moved aside in its folder.
fn set_aside(dir: &Path) -> u64 {
    let names = |dir: &Path| fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.file_name());
    let damaged = names(dir).filter(|name| name.to_string_lossy().starts_with("sled.damaged"));
    (damaged.count() + names(&dir.join("quarantine")).count()) as u64
}

struct Checker<'a> {
    store: &'a Store,
    now: Timestamp,
    findings: &'a mut Findings,
}

fn floor(at: i64, unit: i64) -> i64 {
    at.div_euclid(unit) * unit
}

impl Checker<'_> {
    /// Every series that must be there is listed, and no other.
    fn list(&mut self, model: &Model, series: &[SeriesInfo], last: u64) {
        let known = |n: u32| model.points(n, 0).chain((0..=last.min(400)).flat_map(move |t| model.points(n, t))).next();
        for info in series {
            let number = info.key.workload.strip_prefix("app-").and_then(|n| n.parse::<u32>().ok());
            let is_ours =
                number.is_some_and(|n| n < model.containers && model.key(n) == info.key && known(n).is_some());
            if !is_ours || info.first > info.last || info.last > self.now {
                self.wrong(&format!("lists {info:?}"));
            }
        }
    }

    /// All answers about one container.
    fn container(&mut self, model: &Model, container: u32, last: u64) {
        let key = model.key(container);
        let history = model.history(container, last);
        let now = self.now;
        // Spans that begin with a slot, whatever was rolled up by now: the day of the retention's
        // start was rolled up long ago, and an hour that ended less than two hours ago was not.
        let all = floor(now.0 - RETENTION, DAY) + DAY;
        for from in [all, floor(now.0 - 7 * DAY, DAY), floor(now.0, DAY), floor(now.0 - HOUR, HOUR)] {
            let window = Duration::from_millis((now.0 - from) as u64);
            let got = self.store.usage(&key, window, now).map_err(|e| e.to_string());
            self.judge(&key.workload, got, (&history, now), Timestamp(from), now.0 + 1);
        }
        for (from, step) in [(all, DAY), (floor(now.0 - 7 * DAY, DAY), HOUR), (floor(now.0 - HOUR, HOUR), 5 * MINUTES)]
        {
            self.steps(model, container, &history, (from, step));
        }
    }

    /// The answers of a chart.
    fn steps(&mut self, model: &Model, container: u32, history: &[Point], (from, step): (i64, i64)) {
        let key = model.key(container);
        let length = Duration::from_millis(step as u64);
        let end = Timestamp(self.now.0 + 1);
        let answers = match self.store.query_range(&key, Timestamp(from), end, length) {
            Ok(answers) => answers,
            Err(error) => return self.wrong(&format!("{}: {error}", key.workload)),
        };
        let mut answers: std::collections::BTreeMap<i64, Usage> =
            answers.into_iter().map(|usage| (floor(usage.from.0, step), usage)).collect();
        for start in (from..=self.now.0).step_by(step as usize) {
            let got = answers.remove(&start);
            // A chart counts slots whole, also the one that now lies in.
            self.judge(&key.workload, Ok(got), (history, Timestamp(i64::MAX)), Timestamp(start), start + step);
        }
        for usage in answers.values() {
            self.wrong(&format!("{}: an answer outside the range: {usage:?}", key.workload));
        }
    }

    fn judge(
        &mut self,
        what: &str,
        got: Result<Option<Usage>, String>,
        (history, covered_until): (&[Point], Timestamp),
        from: Timestamp,
        end: i64,
    ) {
        let begin = history.partition_point(|p| p.at < from.0);
        let end = history.partition_point(|p| p.at < end);
        let expected = history.get(begin..end).unwrap_or_default();
        match got.map(|got| judge(got.as_ref(), expected, from, covered_until)) {
            Ok(Verdict::Right) => {}
            Ok(Verdict::Lacking(samples)) => self.findings.lost = self.findings.lost.max(samples),
            Ok(Verdict::Wrong(error)) | Err(error) => self.wrong(&format!("{what} from {from}: {error}")),
        }
    }

    fn wrong(&mut self, problem: &str) {
        self.findings.wrong += 1;
        if self.findings.wrong <= TOLD {
            eprintln!("wrong {problem}");
        }
    }
}
