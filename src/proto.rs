//! The types, clients and servers of `proto/optipod/`, as the build generates them.
//!
//! It stands below both the services ([`crate::api`]) and the provider that calls them. Invariant: nothing
//! is written by hand here but what the generated types lack.

#![allow(missing_docs, clippy::all, clippy::pedantic)] // generated

/// A duration that came over the wire; `None` where it is negative or malformed. prost's own conversion overflows on the
/// most negative values, which anyone may send.
pub fn duration(value: prost_types::Duration) -> Option<std::time::Duration> {
    let nanos = u32::try_from(value.nanos).ok().filter(|nanos| *nanos < 1_000_000_000)?;
    Some(std::time::Duration::new(u64::try_from(value.seconds).ok()?, nanos))
}

tonic::include_proto!("optipod.v1alpha1");

/// The types of `proto/optipod/admin/v1alpha1`.
pub mod admin {
    tonic::include_proto!("optipod.admin.v1alpha1");
}

/// The compiled definitions, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/optipod_descriptor.bin"));
