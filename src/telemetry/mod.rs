//! What OptiPod tells about itself.
pub mod events;
