//! The bytes of a digest: see FORMAT.md, "Digest".
//!
//! Invariant: decoding what `encode` wrote gives the same digest with its inner means rounded to
//! the nearest of 10 mantissa bits, its minimum rounded down and its maximum up; encoding that
//! again gives the same bytes.

use super::TDigest;
use super::tdigest::{Centroid, MAX_WEIGHT};
use crate::codec::{DecodeError, Reader, code18, code24, code24_down, put_u24, put_varint, value18, value24};

/// Every weight is one and not written.
const UNIT_WEIGHTS: u8 = 1;

/// Bytes: count, flags, minimum, maximum when there is a second centroid, then for each inner
/// centroid the step of its code; the gap bits ride on the steps; then the weights.
pub(super) fn encode(digest: &TDigest, out: &mut Vec<u8>) {
    let centroids = digest.centroids();
    let unit = centroids.iter().all(|c| c.weight() == 1);
    put_varint(out, centroids.len() as u64);
    out.push(if unit { UNIT_WEIGHTS } else { 0 });
    if let [first, inner @ .., last] = centroids {
        let low = code24_down(first.mean);
        put_u24(out, low);
        put_u24(out, code24(last.mean).max(low));
        put_inner(out, first, inner, low);
    } else if let [only] = centroids {
        put_u24(out, code24(only.mean));
    }
    if !unit {
        for centroid in centroids {
            put_varint(out, centroid.weight() - 1); // weights are positive
        }
    }
}

fn put_inner(out: &mut Vec<u8>, first: &Centroid, inner: &[Centroid], low: u32) {
    let mut before = low >> 6;
    let mut gap = first.gap();
    for centroid in inner {
        let code = code18(centroid.mean).max(before);
        put_varint(out, u64::from(code - before) << 1 | u64::from(gap));
        before = code;
        gap = centroid.gap();
    }
    out.push(u8::from(gap)); // between the last two
}

pub(super) fn decode(bytes: &[u8]) -> Result<TDigest, DecodeError> {
    let mut reader = Reader::new(bytes);
    // Every centroid but the outer two takes a byte at least, and these take three each.
    let n = reader.count(1, "a digest's size")?;
    let flags = reader.u8("a digest's flags")?;
    if n == 0 || flags & !UNIT_WEIGHTS != 0 {
        return Err(DecodeError::Invalid("a digest's head"));
    }
    let mut centroids = read_means(&mut reader, n)?;
    let mut total = n as u64;
    if flags & UNIT_WEIGHTS == 0 {
        total = 0;
        for centroid in &mut centroids {
            let weight = reader.varint("a weight")?.saturating_add(1).min(MAX_WEIGHT + 1);
            total = total.saturating_add(weight);
            *centroid = Centroid::new(centroid.mean, weight, centroid.gap());
        }
    }
    if total > MAX_WEIGHT {
        return Err(DecodeError::Invalid("a digest's weight"));
    }
    reader.end("the end of a digest")?;
    TDigest::from_centroids(centroids).map_err(|_| DecodeError::Invalid("a digest's head"))
}

/// The centroids with their means and gaps, each of weight one as yet.
fn read_means(reader: &mut Reader<'_>, n: usize) -> Result<Vec<Centroid>, DecodeError> {
    let invalid = DecodeError::Invalid("a digest's mean");
    let low = reader.u24("a digest's minimum")?;
    let min = value24(low).ok_or(invalid)?;
    let mut centroids = Vec::with_capacity(n);
    let mut before = min;
    if n > 1 {
        let max = value24(reader.u24("a digest's maximum")?).ok_or(invalid)?;
        if max < min {
            return Err(invalid);
        }
        let mut code = low >> 6;
        for _ in 2..n {
            let step = reader.varint32("a digest's mean")?;
            centroids.push(Centroid::new(before, 1, step & 1 == 1));
            code = code.saturating_add(step >> 1);
            before = value18(code).ok_or(invalid)?.clamp(min, max);
        }
        match reader.u8("a digest's last gap")? {
            bit @ 0..=1 => centroids.push(Centroid::new(before, 1, bit == 1)),
            _ => return Err(DecodeError::Invalid("a digest's last gap")),
        }
        before = max;
    }
    centroids.push(Centroid::new(before, 1, false));
    Ok(centroids)
}
