//! The brakes that people pull on workloads. They come before every other question, and are asked again before each write.

use super::reason::Reason;

/// The brakes that are on for one workload.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Brakes {
    /// The ConfigMap that holds everything, or this workload's namespace among others.
    pub config_map: Option<Brake>,
    /// Where the annotation `optipod.io/hold` stands, if anywhere: on the namespace, the workload or a pod.
    pub annotation: Option<String>,
}

/// The ConfigMap `optipod-brake`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Brake {
    /// The ConfigMap's `namespace/name`.
    pub place: String,
    /// What its author says of it.
    pub why: Option<String>,
}

impl Brakes {
    /// Why nothing may be written; the brake with the longest reach answers.
    pub fn hold(&self) -> Option<Reason> {
        let config_map = self.config_map.clone().map(Reason::BrakeOn);
        config_map.or_else(|| Some(Reason::HeldByAnnotation { place: self.annotation.clone()? }))
    }
}
