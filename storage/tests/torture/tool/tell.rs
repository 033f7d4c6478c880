//! `torture tell`

use std::process::ExitCode;
use std::time::Duration;

use super::Options;
use super::model::time_of;
use optipod_storage::{Store, StoreOptions};

const WINDOWS: [u64; 4] = [1, 3, 24, 24 * 30];

/// Opens any store and prints what it answers at its last tick.
pub fn tell(options: &Options) -> Result<ExitCode, String> {
    let store = Store::open(&options.dir, StoreOptions::default(), time_of(0)).map_err(|e| e.to_string())?;
    let status = store.status(time_of(0));
    println!("{:?} {:?}", status.last_tick, status.problems);
    let now = status.last_tick.unwrap_or_default();
    for info in store.series(None, usize::MAX) {
        for hours in WINDOWS {
            let usage = store.usage(&info.key, Duration::from_hours(hours), now).map_err(|e| e.to_string())?;
            println!("{} {hours} h {usage:?}", info.key);
        }
    }
    Ok(ExitCode::SUCCESS)
}
