//! The bytes of a digest: see FORMAT.md, "Digest".
//!
//! Invariant: decoding what `encode` wrote gives the same digest with its inner means rounded to
//! the nearest of 8 mantissa bits, its minimum rounded down and its maximum up; encoding that again
//! gives the same bytes.

use super::bits::{BitReader, BitWriter, best_parameter};
use super::tdigest::{Centroid, MAX_WEIGHT};
use super::{HEAD_T_DIGEST, TDigest};
use crate::codec::{DecodeError, Reader, code16, code24, code24_down, put_u24, put_varint, value16, value24};

/// In the head: every weight is one and not written.
const UNIT_WEIGHTS: u8 = 1;
/// Bits of a `code24` below those of a `code16`.
const FINE: u32 = 8;
/// A gap is wider than 10 %, which is 25 steps at least before both ends are rounded: below this
/// there is none, and no bit says so.
const NARROW: u64 = 24;

/// Head, count, minimum, maximum when there is a second centroid; then the Rice parameters and
/// bits: for each inner centroid the step of its code and, where it is wide, the gap bit before it, the gap bit before
/// the last centroid, and the weights.
pub(super) fn encode(digest: &TDigest, out: &mut Vec<u8>) {
    let centroids = digest.centroids();
    let is_unit = centroids.iter().all(|c| c.weight() == 1);
    out.push(if is_unit { HEAD_T_DIGEST | UNIT_WEIGHTS } else { HEAD_T_DIGEST });
    put_varint(out, centroids.len() as u64);
    let mut steps = Vec::with_capacity(centroids.len());
    if let [first, inner @ .., last] = centroids {
        let low = code24_down(first.mean);
        put_u24(out, low);
        put_u24(out, code24(last.mean).max(low));
        let mut before = low >> FINE;
        for centroid in inner {
            let code = code16(centroid.mean).max(before);
            steps.push(u64::from(code - before));
            before = code;
        }
    } else if let [only] = centroids {
        put_u24(out, code24(only.mean));
    }
    put_bits(out, centroids, &steps, is_unit);
}

fn put_bits(out: &mut Vec<u8>, centroids: &[Centroid], steps: &[u64], is_unit: bool) {
    if is_unit && centroids.len() == 1 {
        return;
    }
    let weights: Vec<u64> = if is_unit { Vec::new() } else { centroids.iter().map(|c| c.weight() - 1).collect() }; // positive
    let (of_steps, of_weights) = (best_parameter(steps), best_parameter(&weights));
    out.extend(u8::try_from(of_steps << 4 | of_weights)); // two nibbles
    let mut bits = BitWriter::new(out);
    for (step, before) in steps.iter().zip(centroids) {
        bits.put_rice(of_steps, *step);
        if *step >= NARROW {
            bits.put(u64::from(before.gap()), 1);
        }
    }
    if let [.., before, _] = centroids {
        bits.put(u64::from(before.gap()), 1);
    }
    for weight in weights {
        bits.put_rice(of_weights, weight);
    }
    bits.finish();
}

pub(super) fn decode(bytes: &[u8]) -> Result<TDigest, DecodeError> {
    let invalid = DecodeError::Invalid("a digest's head");
    let mut reader = Reader::new(bytes);
    let head = reader.u8("a digest's head")?;
    let is_unit = head & UNIT_WEIGHTS != 0;
    let n = usize::try_from(reader.varint("a digest's size")?).map_err(|_| invalid)?;
    // Every centroid but the outer two takes a bit at least, and these take three bytes each.
    if head & !UNIT_WEIGHTS != HEAD_T_DIGEST || n == 0 || n / 8 > reader.remaining() {
        return Err(invalid);
    }
    let low = reader.u24("a digest's minimum")?;
    let high = if n > 1 { reader.u24("a digest's maximum")? } else { low };
    if high < low {
        return Err(DecodeError::Invalid("a digest's maximum"));
    }
    if is_unit && n == 1 {
        reader.end("the end of a digest")?;
        return digest(vec![Centroid::new(mean24(low)?, 1, false)]);
    }
    let parameters = u32::from(reader.u8("a digest's parameters")?);
    let mut bits = BitReader::new(reader.bytes(reader.remaining(), "a digest")?);
    let mut centroids = read_means(&mut bits, n, parameters >> 4, (low, high))?;
    if !is_unit {
        read_weights(&mut bits, &mut centroids, parameters & 15)?;
    }
    bits.end("the end of a digest")?;
    digest(centroids)
}

fn digest(centroids: Vec<Centroid>) -> Result<TDigest, DecodeError> {
    TDigest::from_centroids(centroids).map_err(|_| DecodeError::Invalid("a digest's size"))
}

fn mean24(code: u32) -> Result<f64, DecodeError> {
    value24(code).ok_or(DecodeError::Invalid("a digest's mean"))
}

/// The centroids with their means and gaps, each of weight one as yet.
fn read_means(bits: &mut BitReader<'_>, n: usize, k: u32, ends: (u32, u32)) -> Result<Vec<Centroid>, DecodeError> {
    let what = "a digest's mean";
    let (min, max) = (mean24(ends.0)?, mean24(ends.1)?);
    let mut centroids = Vec::with_capacity(n);
    let (mut before, mut code) = (min, u64::from(ends.0 >> FINE));
    for _ in 2..n {
        let step = bits.rice(k, what)?;
        let gap = step >= NARROW && bits.take(1, what)? == 1;
        centroids.push(Centroid::new(before, 1, gap));
        code = code.saturating_add(step);
        let mean = u32::try_from(code).ok().and_then(value16);
        before = mean.ok_or(DecodeError::Invalid(what))?.clamp(min, max);
    }
    if n > 1 {
        centroids.push(Centroid::new(before, 1, bits.take(1, what)? == 1));
    }
    centroids.push(Centroid::new(max, 1, false));
    Ok(centroids)
}

fn read_weights(bits: &mut BitReader<'_>, centroids: &mut [Centroid], k: u32) -> Result<(), DecodeError> {
    let mut total = 0_u64;
    for centroid in centroids {
        let weight = bits.rice(k, "a weight")?.saturating_add(1);
        total = total.saturating_add(weight);
        if total > MAX_WEIGHT {
            return Err(DecodeError::Invalid("a digest's weight"));
        }
        *centroid = Centroid::new(centroid.mean, weight, centroid.gap());
    }
    Ok(())
}
