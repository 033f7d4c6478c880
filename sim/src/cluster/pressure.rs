//! Who gets the CPU and who loses the memory of one node.
//!
//! What it may not know: pods as objects, time, the API.
//! Invariant: pure; no container gets more CPU than it asks for or than its limit.

/// One container's claim on its node's CPU.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct CpuClaim {
    /// Cores wanted.
    pub(crate) demand: f64,
    /// Cores requested: the weight when CPU is short.
    pub(crate) request: f64,
    /// Cores at most, by the limit.
    pub(crate) limit: Option<f64>,
}

/// The kernel's least CPU weight (2 of 1024 shares), for containers without a request.
const LEAST_WEIGHT: f64 = 0.002;

/// Shares the node's cores: everybody what they want while it lasts, else by weight of requests.
pub(crate) fn share_cpu(capacity: f64, claims: &[CpuClaim]) -> Vec<f64> {
    let wanted = |claim: &CpuClaim| claim.limit.map_or(claim.demand, |l| claim.demand.min(l));
    let mut got: Vec<f64> = claims.iter().map(wanted).collect();
    if got.iter().sum::<f64>() <= capacity {
        return got;
    }
    got.fill(0.0);
    let mut left = capacity;
    // Each round gives the rest by weight to those still hungry; who is sated leaves the table.
    for _ in 0..claims.len() {
        let hungry: Vec<usize> = (0..claims.len())
            .filter(|i| claims.get(*i).zip(got.get(*i)).is_some_and(|(c, g)| wanted(c) - g > 1e-9))
            .collect();
        let weight = |i: &usize| claims.get(*i).map_or(0.0, |c| c.request.max(LEAST_WEIGHT));
        let weights: f64 = hungry.iter().map(weight).sum();
        if left <= 1e-9 || hungry.is_empty() {
            break;
        }
        let round = left;
        for i in &hungry {
            if let (Some(claim), Some(cores)) = (claims.get(*i), got.get_mut(*i)) {
                let more = (round * weight(i) / weights).min(wanted(claim) - *cores);
                *cores += more;
                left -= more;
            }
        }
    }
    got
}

/// One container's hold on its node's memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct MemoryHold {
    /// Bytes in use.
    pub(crate) usage: f64,
    /// Bytes requested.
    pub(crate) request: f64,
}

/// The containers to kill until the node's memory suffices: those most above their request first.
pub(crate) fn memory_victims(capacity: f64, holds: &[MemoryHold]) -> Vec<usize> {
    let mut total: f64 = holds.iter().map(|hold| hold.usage).sum();
    let mut order: Vec<(usize, f64, f64)> =
        holds.iter().enumerate().map(|(i, hold)| (i, hold.usage - hold.request, hold.usage)).collect();
    order.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let mut victims = Vec::new();
    for (index, _, usage) in order {
        if total <= capacity {
            break;
        }
        victims.push(index);
        total -= usage;
    }
    victims
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(demand: f64, request: f64, limit: Option<f64>) -> CpuClaim {
        CpuClaim { demand, request, limit }
    }

    #[test]
    fn enough_cpu_is_given_up_to_the_limit() {
        let got = share_cpu(10.0, &[claim(2.0, 0.1, None), claim(3.0, 1.0, Some(1.5))]);
        assert_eq!(got, [2.0, 1.5]);
    }

    #[test]
    fn short_cpu_goes_by_requests_and_nothing_is_left_over() {
        let claims = [claim(4.0, 3.0, None), claim(4.0, 1.0, None), claim(0.1, 1.0, None)];
        let got = share_cpu(4.0, &claims);
        assert!((got.iter().sum::<f64>() - 4.0).abs() < 1e-6);
        assert!((got[2] - 0.1).abs() < 1e-6, "small demand is met");
        assert!((got[0] / got[1] - 3.0).abs() < 0.05, "{got:?}");
    }

    #[test]
    fn the_container_most_above_its_request_dies_first() {
        let hold = |usage, request| MemoryHold { usage, request };
        let holds = [hold(4.0, 4.0), hold(3.0, 1.0), hold(5.0, 4.5)];
        assert_eq!(memory_victims(12.0, &holds), Vec::<usize>::new());
        assert_eq!(memory_victims(10.0, &holds), [1]);
        assert_eq!(memory_victims(8.0, &holds), [1, 2]);
    }

    proptest::proptest! {
        #[test]
        fn nobody_gets_more_than_asked_and_no_core_is_wasted(
            claims in proptest::collection::vec(
                (0.0_f64..8.0, 0.0_f64..4.0, proptest::option::of(0.1_f64..6.0)), 1..12),
            capacity in 0.5_f64..16.0,
        ) {
            let claims: Vec<CpuClaim> = claims.into_iter().map(|(d, r, l)| claim(d, r, l)).collect();
            let wanted: Vec<f64> =
                claims.iter().map(|c| c.limit.map_or(c.demand, |l| c.demand.min(l))).collect();
            let got = share_cpu(capacity, &claims);
            for (got, wanted) in got.iter().zip(&wanted) {
                proptest::prop_assert!(*got <= wanted + 1e-6);
            }
            let total: f64 = got.iter().sum();
            let possible = wanted.iter().sum::<f64>().min(capacity);
            proptest::prop_assert!((total - possible).abs() < 1e-4, "{total} of {possible}");
        }
    }
}
