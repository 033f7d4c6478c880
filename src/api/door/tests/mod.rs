//! The parts of the door by themselves; the whole of it is tested over TLS in `tests/recommender/door/`.

mod answers;
mod limit;
mod reviews;
mod rights;
mod tls;

use super::*;
use std::time::Duration;
use tokio::time::advance;
