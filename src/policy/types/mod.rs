//! The types of the CRD `optimizationpolicies.optipod.io`, version v1alpha1.
//!
//! The CRD's schema is derived from them (see [`super::crd`]), so that the two cannot drift apart: what a Rust type cannot
//! say (ranges, patterns, CEL rules) stands in `schema.rs` and is attached to the field it speaks of.

mod outcome;
mod schema;
mod spec;
mod status;

pub use outcome::*;
pub use spec::*;
pub use status::*;
