//! Requests and limits of containers, and the quality-of-service class that follows from them.

use crate::quantity::{Bytes, Millicores, QuantityError};
use k8s_openapi::api::core::v1::{Container, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeMap;

/// An amount of each resource that OptiPod manages; `None` where none is set.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Resources {
    /// CPU.
    pub cpu: Option<Millicores>,
    /// Memory.
    pub memory: Option<Bytes>,
}

/// One container's requests and limits.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ContainerResources {
    /// The container's name.
    pub name: String,
    /// What the scheduler reserves.
    pub requests: Resources,
    /// What the kubelet enforces.
    pub limits: Resources,
}

/// <https://kubernetes.io/docs/concepts/workloads/pods/pod-qos/>
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum QosClass {
    /// Every container has CPU and memory limits, equal to its requests.
    Guaranteed,
    /// Anything between.
    Burstable,
    /// No container has any request or limit.
    BestEffort,
}

impl ContainerResources {
    /// Reads a container's resources. A limit without a request counts as a request of the same size, as the API server defaults it.
    pub fn of(container: &Container) -> Result<Self, QuantityError> {
        Self::from_requirements(&container.name, container.resources.as_ref())
    }

    /// The same from a container's name and its `resources`.
    pub fn from_requirements(name: &str, requirements: Option<&ResourceRequirements>) -> Result<Self, QuantityError> {
        let limits = Resources::of(requirements.and_then(|r| r.limits.as_ref()))?;
        let requests = Resources::of(requirements.and_then(|r| r.requests.as_ref()))?;
        let requests = Resources { cpu: requests.cpu.or(limits.cpu), memory: requests.memory.or(limits.memory) };
        Ok(Self { name: name.to_owned(), requests, limits })
    }
}

impl Resources {
    /// Reads `cpu` and `memory` from a resource list.
    pub fn of(list: Option<&BTreeMap<String, Quantity>>) -> Result<Self, QuantityError> {
        let get = |name| list.and_then(|list| list.get(name));
        Ok(Self {
            cpu: get("cpu").map(|q| q.0.parse()).transpose()?,
            memory: get("memory").map(|q| q.0.parse()).transpose()?,
        })
    }
}

/// The class of a pod with these containers (init containers included, as Kubernetes counts them).
pub fn qos_class<'a>(containers: impl IntoIterator<Item = &'a ContainerResources>) -> QosClass {
    let (mut guaranteed, mut best_effort) = (true, true);
    for container in containers {
        let any = [container.requests, container.limits]
            .iter()
            .any(|r| r.cpu.is_some_and(|cpu| cpu.0 > 0) || r.memory.is_some_and(|memory| memory.0 > 0));
        best_effort &= !any;
        guaranteed &= container.limits.cpu.is_some_and(|cpu| cpu.0 > 0)
            && container.limits.memory.is_some_and(|memory| memory.0 > 0)
            && container.requests == container.limits;
    }
    match (best_effort, guaranteed) {
        (true, _) => QosClass::BestEffort,
        (false, true) => QosClass::Guaranteed,
        (false, false) => QosClass::Burstable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(requests: (Option<u64>, Option<u64>), limits: (Option<u64>, Option<u64>)) -> ContainerResources {
        let resources = |(cpu, memory): (Option<u64>, Option<u64>)| Resources {
            cpu: cpu.map(Millicores),
            memory: memory.map(Bytes),
        };
        ContainerResources { name: "c".into(), requests: resources(requests), limits: resources(limits) }
    }

    #[test]
    fn qos_classes_follow_the_kubernetes_rules() {
        let guaranteed = container((Some(1), Some(1)), (Some(1), Some(1)));
        let nothing = container((None, None), (None, None));
        let request = container((Some(1), None), (None, None));
        assert_eq!(qos_class([&guaranteed]), QosClass::Guaranteed);
        assert_eq!(qos_class([&nothing]), QosClass::BestEffort);
        assert_eq!(qos_class([&request]), QosClass::Burstable);
        assert_eq!(qos_class([&guaranteed, &nothing]), QosClass::Burstable);
        assert_eq!(qos_class([&container((Some(1), Some(1)), (Some(2), Some(1)))]), QosClass::Burstable);
    }

    #[test]
    fn a_limit_without_a_request_is_a_request_too() {
        let requirements = ResourceRequirements {
            limits: Some(BTreeMap::from([("cpu".into(), Quantity("500m".into()))])),
            ..ResourceRequirements::default()
        };
        let read = ContainerResources::from_requirements("c", Some(&requirements)).unwrap();
        assert_eq!(read.requests.cpu, Some(Millicores(500)));
        assert_eq!(read.requests.memory, None);
    }
}
