//! The recommender from metrics-server to an answer over gRPC, on the API server double.
//!
//! | module | what it shows |
//! |---|---|
//! | `collection` | what is published comes back, each point once, whatever fails on the way |
//! | `door` | who may call, over real TLS on loopback |
//! | `releases` | what earlier versions left behind is understood |

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // in a test a broken expectation is the failure

mod collection;
mod door;
mod exits;
mod releases;
