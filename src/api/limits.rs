//! How much one request may ask for.

use std::time::Duration;

/// Series in one batch.
pub const MAX_BATCH: usize = 1000;
/// Windows in one request.
pub const MAX_WINDOWS: usize = 16;
/// Parts that one window may be divided into.
pub const MAX_PARTS: u64 = 400;
/// Steps of one range.
pub const MAX_STEPS: u64 = 11_000;
/// Series on one page.
pub const MAX_PAGE: usize = 1000;
/// Series on a page whose size is not given.
pub(super) const DEFAULT_PAGE: usize = 100;
/// Series looked at for one page; a filter that matches few of them gives a short page and a token.
pub(super) const MAX_SCAN: usize = 20_000;
/// The shortest window, part or step: the store's finest slot.
pub const SHORTEST_SPAN: Duration = Duration::from_mins(5);
/// A range may begin this much before the retention: the caller's clock is not ours.
pub(super) const CLOCK_SKEW: Duration = Duration::from_mins(10);
/// Bytes of one request; a batch of 1,000 series with the longest names that Kubernetes allows fits.
pub const MAX_REQUEST_BYTES: usize = 2 << 20;
/// Bytes of one response message; 11,000 steps fit, and so do 4 MiB, which clients take by default.
pub const MAX_RESPONSE_BYTES: usize = 4 << 20;
/// Requests of one connection that are worked on at once.
pub(super) const MAX_CONCURRENT: usize = 64;
/// The longest that one request may take.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_mins(1);
/// A connection with TLS takes no more requests after this time; the client makes a new one.
pub(super) const CONNECTION_AGE: Duration = Duration::from_mins(30);
/// How often a connection with TLS is asked whether somebody is still there.
pub(super) const PING_EVERY: Duration = Duration::from_mins(1);
