//! Merging and compressing: the one place where centroids are joined.
//!
//! May not know: bytes. Invariant: joins never cross a gap; a gap between two neighbours is kept
//! only where every digest is empty and they lie wide apart.

use super::scale::Scale;
use super::tdigest::{Centroid, MAX_CENTROIDS, TDigest, is_wide};

/// A centroid on the way into a merge, with the change in how many digests have values just right
/// of it.
#[derive(Clone, Copy)]
struct Item {
    mean: f64,
    weight: u64,
    change: i32,
}

/// The centroids of all `parts` together, compressed.
pub(super) fn merge(parts: &[&TDigest], compression: f64) -> Vec<Centroid> {
    if let [only] = parts {
        return compress(only.centroids().to_vec(), compression);
    }
    compress(sweep(&sorted_items(parts)), compression)
}

/// All centroids in ascending order.
fn sorted_items(parts: &[&TDigest]) -> Vec<Item> {
    let mut items = Vec::with_capacity(parts.iter().map(|p| p.centroid_count()).sum());
    for part in parts {
        let mut filled_before = 0;
        let last = part.centroid_count() - 1; // a digest has at least one centroid
        for (i, centroid) in part.centroids().iter().enumerate() {
            let filled = i32::from(i != last && !centroid.gap());
            items.push(Item { mean: centroid.mean, weight: centroid.weight(), change: filled - filled_before });
            filled_before = filled;
        }
    }
    if parts.len() > 2 {
        items = nearly_sorted(&items);
    }
    // Means are not negative, so their bits sort as they do. A stable sort finds what is in order.
    items.sort_by_key(|item| item.mean.to_bits());
    items
}

/// Sorted but for means that differ in the lowest bits alone: numbers of the other bits, with the
/// item's place instead of the lowest, are sorted in half the time of items.
fn nearly_sorted(items: &[Item]) -> Vec<Item> {
    let places = items.len().next_power_of_two() as u64 - 1;
    let keys = (0..).zip(items).map(|(place, item)| item.mean.to_bits() & !places | place);
    let mut keys: Vec<u64> = keys.collect();
    keys.sort_unstable();
    let place = |key: u64| usize::try_from(key & places).unwrap_or(usize::MAX);
    keys.iter().filter_map(|key| items.get(place(*key))).copied().collect()
}

/// Joins equal means and sets the gap bits: a boundary is a gap when no digest has values there.
fn sweep(items: &[Item]) -> Vec<Centroid> {
    let mut out = Vec::with_capacity(items.len());
    let mut filled = 0;
    let mut rest = items.iter().peekable();
    while let Some(item) = rest.next() {
        let mut weight = item.weight;
        filled += item.change;
        while let Some(same) = rest.next_if(|next| next.mean <= item.mean) {
            weight += same.weight;
            filled += same.change;
        }
        let gap = filled == 0 && rest.peek().is_some_and(|next| is_wide(item.mean, next.mean));
        out.push(Centroid::new(item.mean, weight, gap));
    }
    out
}

/// Joins neighbours as far as the scale function allows; few centroids stay as they are, exact.
/// Where gaps alone keep more than the cap, the narrowest are given up first.
pub(super) fn compress(centroids: Vec<Centroid>, compression: f64) -> Vec<Centroid> {
    let compression = compression.clamp(10.0, 1000.0);
    if centroids.len() as f64 <= compression / 2.0 {
        return centroids;
    }
    let mut out = joined(&centroids, compression);
    for factor in [1.2, 1.5, 2.0, 4.0, f64::INFINITY] {
        if out.len() <= MAX_CENTROIDS {
            break;
        }
        out = joined(&without_gaps_below(&out, factor), compression);
    }
    out
}

/// One greedy pass within the limits of the scale function.
fn joined(centroids: &[Centroid], compression: f64) -> Vec<Centroid> {
    let scale = Scale::new(centroids.iter().map(|c| c.weight()).sum(), compression);
    let mut out: Vec<Centroid> = Vec::with_capacity(centroids.len().min(MAX_CENTROIDS));
    let Some((first, rest)) = centroids.split_first() else { return out };
    let mut cluster = Cluster::of(*first);
    let (mut before, mut limit_before) = (0.0, 0.0); // weight left of the cluster that grows
    for &next in rest {
        let both = (cluster.weight + next.weight()) as f64;
        if !cluster.gap && both <= limit_before && both <= scale.limit(before + both) {
            cluster.add(next);
        } else {
            before += cluster.weight as f64;
            limit_before = scale.limit(before);
            out.push(cluster.centroid());
            cluster = Cluster::of(next);
        }
    }
    out.push(cluster.centroid());
    out
}

/// Centroids that become one.
struct Cluster {
    first: f64,
    last: f64,
    sum: f64,
    weight: u64,
    gap: bool,
}

impl Cluster {
    fn of(only: Centroid) -> Self {
        let Centroid { mean, .. } = only;
        Self { first: mean, last: mean, sum: mean * only.weight() as f64, weight: only.weight(), gap: only.gap() }
    }

    fn add(&mut self, next: Centroid) {
        self.last = next.mean;
        self.sum += next.mean * next.weight() as f64;
        self.weight += next.weight();
        self.gap = next.gap();
    }

    /// A single one's mean stays as it is, to the bit.
    fn centroid(&self) -> Centroid {
        Centroid::new((self.sum / self.weight as f64).clamp(self.first, self.last), self.weight, self.gap)
    }
}

/// Takes the gap bit from centroids whose right neighbour is nearer than `factor` times the value.
fn without_gaps_below(centroids: &[Centroid], factor: f64) -> Vec<Centroid> {
    let next_means = centroids.iter().skip(1).map(|c| c.mean).chain([f64::INFINITY]);
    centroids
        .iter()
        .zip(next_means)
        .map(|(c, next)| Centroid::new(c.mean, c.weight(), c.gap() && next > c.mean * factor))
        .collect()
}
