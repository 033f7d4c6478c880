//! The types, clients and servers of `proto/optipod/v1alpha1`, as the build generates them.
//!
//! It stands below both the services ([`crate::api`]) and the provider that calls them. Invariant: nothing is written
//! by hand here.

#![allow(missing_docs, clippy::all, clippy::pedantic)] // generated

tonic::include_proto!("optipod.v1alpha1");

/// The compiled definitions, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/optipod_descriptor.bin"));
