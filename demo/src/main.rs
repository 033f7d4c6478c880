//! OptiPod's main job on a simulated cluster: a day in about a minute, nothing else needed.
//!
//! - [`day`]: one simulated day, with OptiPod or without it.
//! - [`frame`]: the state at one moment, read from the API double as any user would read it.
//! - [`live`]: frames in the terminal. [`report`]: the JSON document at the end.
//!
//! It may not know how OptiPod computes anything. Invariant: the same seed gives the same JSON bytes.

mod day;
mod frame;
mod live;
mod policies;
mod report;

use anyhow::Context as _;
use clap::Parser;
use std::time::Duration;

/// Watch OptiPod work: a day on a simulated cluster.
#[derive(Parser, Debug)]
#[command(name = "optipod-demo", version)]
struct Args {
    /// Seed of the simulated cluster
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// How much time to simulate, such as 8h or 24h
    #[arg(long, default_value = "24h")]
    until: humantime::Duration,
    /// No display: as fast as possible
    #[arg(long)]
    headless: bool,
    /// Print one JSON document at the end
    #[arg(long, requires = "headless")]
    json: bool,
    /// How many real seconds a simulated day takes on display
    #[arg(long, default_value_t = 60)]
    day_seconds: u64,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let until: Duration = args.until.into();
    anyhow::ensure!(
        (Duration::from_hours(1)..=Duration::from_hours(7 * 24)).contains(&until),
        "--until must be from 1h to 7d, got {}",
        args.until
    );
    optipod::telemetry::init(optipod::telemetry::LogFormat::Text, &log_level())?;
    // The same day without OptiPod, to compare with, in a thread of its own.
    let seed = args.seed;
    let without = std::thread::spawn(move || day::simulate(seed, until, None, &mut |_| {}));
    let dir = tempfile::tempdir().context("making a temporary folder for the store")?;
    let mut screen = live::Screen::new(args.headless, Duration::from_secs(args.day_seconds), args.seed);
    let with = day::simulate(args.seed, until, Some(dir.path()), &mut |frame| screen.show(frame))?;
    let without = without.join().map_err(|_| anyhow::anyhow!("the simulation without OptiPod panicked"))??;
    let report = report::Report::new(args.seed, until, &without, &with);
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", live::summary(&report));
    }
    Ok(())
}

/// Errors only, so that log lines do not break the display; `OPTIPOD_LOG_LEVEL` asks for more.
fn log_level() -> String {
    std::env::var("OPTIPOD_LOG_LEVEL").unwrap_or_else(|_| "error".to_owned())
}
