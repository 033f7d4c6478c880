//! Waiting for a cluster to get somewhere.

use std::fmt::Display;
use std::future::Future;
use std::time::Duration;

use anyhow::bail;
use tokio::time::Instant;

use super::Result;

/// Between two looks: short against what is waited for, long against a request.
const PERIOD: Duration = Duration::from_millis(100);

/// Probes until it succeeds and returns its value.
///
/// An `Err` of the probe means *not yet*; the last one is quoted when
/// `deadline` passes, so a probe says what it saw: `ensure!(n == 3, "{n} pods")`.
pub async fn wait_for<T, F, Fut>(what: impl Display, deadline: Duration, mut probe: F) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T>>,
{
    let start = Instant::now();
    let mut last = "nothing was seen".to_owned();
    loop {
        let left = deadline.saturating_sub(start.elapsed());
        match tokio::time::timeout(left, probe()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(not_yet)) => last = format!("{not_yet:#}"),
            Err(_) => last = format!("{last} (and then a probe that did not end)"),
        }
        if start.elapsed() + PERIOD >= deadline {
            bail!("waited {deadline:?} for {what}; last seen: {last}");
        }
        tokio::time::sleep(PERIOD).await;
    }
}
