//! Injected faults: which requests suffer, and what happens to them.
//!
//! What it may not know: what a request means beyond its names.
//! Invariant: the random choices come from one seeded stream, drawn only for requests that a rule
//! with a probability matches, so that a rule added elsewhere does not move them.

use std::time::Duration;

use super::journal::Entry;
use super::kinds::split_resource;
use crate::rng::Rng;

/// What happens to a struck request.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// The answer comes this much later; the request is carried out.
    Latency(Duration),
    /// The request is refused with this status code (500, 503, …) and not carried out.
    Status(u16),
    /// 429 with `Retry-After`, in seconds.
    TooManyRequests(u64),
    /// 409, as for a stale resourceVersion.
    Conflict,
    /// 410, as for a forgotten resourceVersion.
    Expired,
    /// The connection breaks before the request was read.
    DropBefore,
    /// The connection breaks after the request was carried out.
    DropAfter,
    /// The request is carried out, and the answer is not JSON.
    Garbage,
    /// A watch ends (the connection closes cleanly) after this time.
    CutWatch(Duration),
    /// A watch delivers everything this much later: caches are stale.
    LagWatch(Duration),
    /// A watch tells whatever it delivers at once twice, all of it in order and then all of it again: the past comes
    /// back for a moment, as after a reconnection to a server whose cache is behind.
    EchoWatch,
    /// A watch tells changes of different objects in another order than they were made; those of one object stay in order.
    ShuffleWatch,
    /// The request never gets an answer.
    Hang,
}

impl Fault {
    fn is_for_watches(&self) -> bool {
        matches!(self, Self::CutWatch(_) | Self::LagWatch(_) | Self::EchoWatch | Self::ShuffleWatch)
    }
}

/// Which requests a fault strikes. Empty strings and `None` match everything.
#[derive(Clone, Debug)]
pub struct FaultRule {
    /// Authorisation verb, such as `patch`.
    pub verb: String,
    /// API group; `None` for any.
    pub group: Option<String>,
    /// Plural name, such as `pods`.
    pub resource: String,
    /// Subresource; `None` for any, `Some("")` for none.
    pub subresource: Option<String>,
    /// Namespace.
    pub namespace: String,
    /// Object name.
    pub name: String,
    /// The user that the client speaks as.
    pub user: String,
    /// Lets this many matching requests pass first.
    pub skip: u64,
    /// Strikes at most this often.
    pub times: Option<u64>,
    /// Strikes a matching request with this probability.
    pub probability: f64,
    /// What happens.
    pub fault: Fault,
}

impl FaultRule {
    /// Strikes every request, until narrowed by the builder methods.
    pub fn new(fault: Fault) -> Self {
        Self {
            verb: String::new(),
            group: None,
            resource: String::new(),
            subresource: None,
            namespace: String::new(),
            name: String::new(),
            user: String::new(),
            skip: 0,
            times: None,
            probability: 1.0,
            fault,
        }
    }

    /// Only requests with this verb.
    #[must_use]
    pub fn verb(mut self, verb: &str) -> Self {
        verb.clone_into(&mut self.verb);
        self
    }

    /// Only this resource: `pods`, `pods/resize`, `deployments.apps`, `pods.metrics.k8s.io`.
    #[must_use]
    pub fn on(mut self, resource: &str) -> Self {
        let (resource, group, subresource) = split_resource(resource);
        self.resource = resource;
        self.group = group;
        self.subresource = subresource;
        self
    }

    /// Only this namespace and name (empty for any).
    #[must_use]
    pub fn object(mut self, namespace: &str, name: &str) -> Self {
        namespace.clone_into(&mut self.namespace);
        name.clone_into(&mut self.name);
        self
    }

    /// Only requests of clients that speak as this user.
    #[must_use]
    pub fn user(mut self, user: &str) -> Self {
        user.clone_into(&mut self.user);
        self
    }

    /// Only the `nth` matching request, counted from 1.
    #[must_use]
    pub fn nth(mut self, nth: u64) -> Self {
        self.skip = nth.saturating_sub(1);
        self.times = Some(1);
        self
    }

    /// At most this often.
    #[must_use]
    pub fn times(mut self, times: u64) -> Self {
        self.times = Some(times);
        self
    }

    /// Each matching request with this probability.
    #[must_use]
    pub fn probability(mut self, probability: f64) -> Self {
        self.probability = probability;
        self
    }

    fn matches(&self, request: &Entry) -> bool {
        let fits = |wanted: &str, have: &str| wanted.is_empty() || wanted == have;
        fits(&self.verb, &request.verb)
            && self.group.as_ref().is_none_or(|group| *group == request.group)
            && fits(&self.resource, &request.resource)
            && self.subresource.as_ref().is_none_or(|s| *s == request.subresource)
            && fits(&self.namespace, &request.namespace)
            && fits(&self.name, &request.name)
            && fits(&self.user, &request.user)
            && (request.verb == "watch" || !self.fault.is_for_watches())
    }
}

/// Names a rule for removal and for its count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FaultId(u64);

#[derive(Debug)]
struct Active {
    id: FaultId,
    rule: FaultRule,
    seen: u64,
    struck: u64,
}

/// The rules in force.
#[derive(Debug)]
pub(crate) struct Faults {
    rules: Vec<Active>,
    retired: Vec<(FaultId, u64)>,
    next: u64,
    rng: Rng,
}

impl Faults {
    pub(crate) fn new(seed: u64) -> Self {
        Self { rules: Vec::new(), retired: Vec::new(), next: 0, rng: Rng::named(seed, "faults") }
    }

    pub(crate) fn add(&mut self, rule: FaultRule) -> FaultId {
        let id = FaultId(self.next);
        self.next += 1;
        self.rules.push(Active { id, rule, seen: 0, struck: 0 });
        id
    }

    pub(crate) fn remove(&mut self, id: FaultId) {
        self.retire(|rule| rule.id == id);
    }

    pub(crate) fn clear(&mut self) {
        self.retire(|_| true);
    }

    fn retire(&mut self, gone: impl Fn(&Active) -> bool) {
        let (out, kept) = std::mem::take(&mut self.rules).into_iter().partition(gone);
        self.rules = kept;
        self.retired.extend(out.iter().map(|rule: &Active| (rule.id, rule.struck)));
    }

    /// How often a rule has struck.
    pub(crate) fn struck(&self, id: FaultId) -> u64 {
        let active = self.rules.iter().find(|rule| rule.id == id).map(|r| r.struck);
        let retired = || self.retired.iter().find(|(rule, _)| *rule == id).map(|(_, n)| *n);
        active.or_else(retired).unwrap_or(0)
    }

    /// The faults that strike this request: all latencies, and the first of the others.
    pub(crate) fn strike(&mut self, request: &Entry) -> Vec<Fault> {
        let mut out: Vec<Fault> = Vec::new();
        for active in self.rules.iter_mut().filter(|active| active.rule.matches(request)) {
            active.seen += 1;
            let due = active.seen > active.rule.skip && active.rule.times.is_none_or(|times| active.struck < times);
            let certain = active.rule.probability >= 1.0;
            if !due || !(certain || self.rng.chance(active.rule.probability)) {
                continue;
            }
            let is_latency = |fault: &Fault| matches!(fault, Fault::Latency(_));
            if is_latency(&active.rule.fault) || out.iter().all(is_latency) {
                active.struck += 1;
                out.push(active.rule.fault.clone());
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(verb: &str, resource: &str) -> Entry {
        Entry { verb: verb.to_owned(), resource: resource.to_owned(), ..Entry::default() }
    }

    #[test]
    fn the_nth_matching_request_is_struck_and_no_other() {
        let mut faults = Faults::new(1);
        let id = faults.add(FaultRule::new(Fault::Status(500)).verb("patch").nth(2));
        let struck: Vec<bool> = ["patch", "get", "patch", "patch"]
            .iter()
            .map(|verb| !faults.strike(&request(verb, "pods")).is_empty())
            .collect();
        assert_eq!(struck, [false, false, true, false]);
        assert_eq!(faults.struck(id), 1);
        faults.clear();
        assert_eq!(faults.struck(id), 1);
    }

    #[test]
    fn the_same_seed_strikes_the_same_requests() {
        let run = || {
            let mut faults = Faults::new(42);
            faults.add(FaultRule::new(Fault::Conflict).probability(0.3));
            (0..50).map(|_| faults.strike(&request("patch", "pods")).len()).collect::<Vec<_>>()
        };
        assert_eq!(run(), run());
        assert!(run().contains(&1) && run().contains(&0));
    }
}
