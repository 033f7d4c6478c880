//! The bytes of a digest: see FORMAT.md, "Digest".
//!
//! Invariant: decoding what `encode` wrote gives the same digest with its inner means rounded to
//! the nearest of 8 mantissa bits, its minimum rounded down and its maximum up; encoding that again
//! gives the same bytes.

use super::bits::{BitReader, BitWriter, best_parameter};
use super::tdigest::{Centroid, MAX_WEIGHT};
use super::weights::Weights;
use super::{HEAD_T_DIGEST, Sketch, TDigest};
use crate::codec::{DecodeError, Reader, code16, code24, code24_down, put_u24, value16, value24};

/// In the head: one centroid, of which only the total follows the mean.
const SINGLE: u8 = 0x20;
/// In the head: every weight is as expected and not written.
const AS_EXPECTED: u8 = 0x10;
/// In the head: the parameter of the steps.
const PARAMETER: u8 = 0x0f;
/// The parameter of the total.
const OF_TOTAL: u32 = 7;
/// Bits of a `code24` below those of a `code16`.
const FINE: u32 = 8;
/// Half a step of a `code16`, as a `code24`: with it the maximum is rounded as the other means are.
const HALF: u32 = 1 << (FINE - 1);
/// A gap is wider than 10 %, which is 25 steps at least before both ends are rounded: below this
/// there is none, and no bit says so.
const NARROW: u64 = 24;

/// Appends head, minimum and bits: the total; each weight, before it the step from the last code and
/// a wide step's gap bit; the low bits of the maximum.
pub(super) fn encode(digest: &TDigest, out: &mut Vec<u8>) {
    let [first, others @ .., last] = digest.centroids() else {
        return encode_single(digest, out);
    };
    let low = code24_down(first.mean);
    let high = code24(last.mean).max(low) + HALF;
    let inner_codes = others.iter().map(|c| code16(c.mean));
    let steps = steps(low >> FINE, inner_codes.chain([high >> FINE]));
    let mut weights = Weights::new(digest.count());
    let weights = digest.centroids().iter().map(|c| (weights.parameter(), weights.difference(c.weight())));
    let weights: Vec<(u32, u64)> = weights.collect();
    let is_as_expected = weights.iter().all(|(_, difference)| *difference == 0);
    let of_steps = best_parameter(&steps);

    let flag = if is_as_expected { AS_EXPECTED } else { 0 };
    out.push(HEAD_T_DIGEST | flag | u8::try_from(of_steps).unwrap_or(PARAMETER)); // a nibble
    put_u24(out, low);
    let mut bits = BitWriter::new(out);
    bits.put_number(OF_TOTAL, digest.count() - 1); // two centroids at least
    let mut before = None;
    let mut steps = steps.into_iter();
    for (centroid, (of_weight, difference)) in digest.centroids().iter().zip(weights) {
        if let Some(gap) = before
            && let Some(step) = steps.next()
        {
            bits.put_number(of_steps, step);
            if step >= NARROW {
                bits.put(u64::from(gap), 1);
            }
        }
        before = Some(centroid.gap());
        if !is_as_expected {
            bits.put_number(of_weight, difference);
        }
    }
    bits.put(u64::from(high), FINE);
    bits.finish();
}

fn encode_single(digest: &TDigest, out: &mut Vec<u8>) {
    out.push(HEAD_T_DIGEST | SINGLE);
    put_u24(out, code24(digest.max()));
    let mut bits = BitWriter::new(out);
    bits.put_number(OF_TOTAL, digest.count() - 1); // not empty
    bits.finish();
}

/// The way from each code to the next, up or none.
fn steps(first: u32, codes: impl Iterator<Item = u32>) -> Vec<u64> {
    let mut before = first;
    codes
        .map(|code| {
            let step = code.saturating_sub(before);
            before += step;
            u64::from(step)
        })
        .collect()
}

pub(super) fn decode(bytes: &[u8]) -> Result<TDigest, DecodeError> {
    let mut reader = Reader::new(bytes);
    let head = reader.u8("a digest's head")?;
    let low = reader.u24("a digest's minimum")?;
    let mut bits = BitReader::new(reader.bytes(reader.remaining(), "a digest")?);
    let total = bits.number(OF_TOTAL).map(|rest| rest + 1); // it has 54 bits at most
    let total = total.filter(|total| *total <= MAX_WEIGHT).ok_or(DecodeError::Invalid("a digest's weight"))?;
    let centroids = if head == HEAD_T_DIGEST | SINGLE {
        vec![Centroid::new(mean24(low)?, total, false)]
    } else if head & !(AS_EXPECTED | PARAMETER) == HEAD_T_DIGEST {
        // About a byte each; where it is less, they take a bit at least.
        read_centroids(&mut bits, head, (low, total), Vec::with_capacity(bytes.len()))?
    } else {
        return Err(DecodeError::Invalid("a digest's head"));
    };
    bits.end("the end of a digest")?;
    Ok(TDigest::of_total(centroids, total))
}

/// Fills the list with the centroids of a total.
fn read_centroids(
    bits: &mut BitReader<'_>,
    head: u8,
    (low, total): (u32, u64),
    mut centroids: Vec<Centroid>,
) -> Result<Vec<Centroid>, DecodeError> {
    let invalid = DecodeError::Invalid("a digest's mean");
    let min = mean24(low)?;
    let mut weights = Weights::new(total);
    let (mut code, mut mean, mut weight) = (low >> FINE, min, read_weight(bits, head, &mut weights)?);
    while weights.is_any_left() {
        bits.refill("a digest's mean")?;
        let step = bits.number(u32::from(head & PARAMETER)).ok_or(invalid)?;
        let gap = bits.take(u32::from(step >= NARROW)) == 1;
        centroids.push(Centroid::new(mean, weight, gap));
        code = u32::try_from(step).ok().and_then(|step| code.checked_add(step)).ok_or(invalid)?;
        mean = value16(code).ok_or(invalid)?.max(min);
        weight = read_weight(bits, head, &mut weights)?;
    }
    let fine = u32::try_from(bits.take(FINE)).map_err(|_| invalid)?;
    let high = (code << FINE | fine).checked_sub(HALF).filter(|high| *high >= low).ok_or(invalid)?;
    let max = mean24(high)?;
    for rounded_up in centroids.iter_mut().rev().take_while(|c| c.mean > max) {
        rounded_up.mean = max;
    }
    centroids.push(Centroid::new(max, weight, false));
    Ok(centroids)
}

fn read_weight(bits: &mut BitReader<'_>, head: u8, weights: &mut Weights) -> Result<u64, DecodeError> {
    let is_as_expected = head & AS_EXPECTED != 0;
    let difference = if is_as_expected { Some(0) } else { bits.number(weights.parameter()) };
    difference.and_then(|difference| weights.weight(difference)).ok_or(DecodeError::Invalid("a weight"))
}

fn mean24(code: u32) -> Result<f64, DecodeError> {
    value24(code).ok_or(DecodeError::Invalid("a digest's mean"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn encoded(values: &mut [f64]) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(&TDigest::from_values(values, 50.0).unwrap(), &mut bytes);
        bytes
    }

    /// By hand from FORMAT.md.
    #[test]
    fn the_bytes_are_those_of_the_format() {
        // 240 times one: 1.0 is the code 0x7f0000; 239 is 10 and seven bits.
        assert_eq!(encoded(&mut [1.0; 240]), [0xa0, 0, 0, 0x7f, 0b1011_0111, 0b1000_0000]);
        // Total 0 0000010; weight two 10, step 0x100 10 00000000, gap 1, weight one 0, fine 10000000.
        let two = encoded(&mut [1.0, 1.0, 2.0]);
        assert_eq!(two, [0x88, 0, 0, 0x7f, 0b0000_0010, 0b1010_0000, 0b0000_1010, 0b0000_0000]);
    }

    /// Another program, written from FORMAT.md, reads these weights from these bytes.
    #[test]
    fn weights_are_foretold_the_same_on_every_machine() {
        let mut values: Vec<f64> = (0..600).map(|i| f64::from(i * i % 97) + f64::from(i) / 64.0).collect();
        let bytes = encoded(&mut values);
        let hex = "86000000e2bbfefc12c02c6326a4f59d26591445899999d17e5e0d056140b0906030303020102400";
        let expected: Vec<u8> =
            (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect();
        assert_eq!(bytes, expected);
        let weights: Vec<u64> = decode(&bytes).unwrap().centroids().iter().map(|c| c.weight()).collect();
        let expected = [1, 1, 1, 1, 2, 3, 6, 9, 15, 24, 38, 57, 79, 97, 85, 63, 44, 28, 18, 11, 6, 4, 2, 2, 1, 1, 1];
        assert_eq!(weights, expected);
    }
}
