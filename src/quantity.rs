//! CPU and memory amounts, parsed from and printed as Kubernetes quantities exactly.
//!
//! Invariant: what [`Millicores`] and [`Bytes`] print, they parse back to the same value.
//! Fractions are rounded up, as the API server does (`0.1m` is one millicore, `128m` of memory one byte).

use std::fmt;
use std::str::FromStr;

/// An amount of CPU in thousandths of a core.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Millicores(pub u64);

/// An amount of memory in bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Bytes(pub u64);

/// Why a text is not a quantity that we can use.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum QuantityError {
    /// The text does not follow the grammar of Kubernetes quantities.
    #[error("\"{0}\" is not a Kubernetes quantity; write for example 250m, 1.5, 128Mi or 2Gi")]
    Syntax(String),
    /// Requests and limits are never negative.
    #[error("\"{0}\" is negative; requests and limits are zero or more")]
    Negative(String),
    /// The value does not fit 64 bits.
    #[error("\"{0}\" is too large for this resource")]
    TooLarge(String),
}

/// The relative precision to which sketches keep a value; digits beyond it are not worth a millicore or a mebibyte.
const PRECISION: f64 = 0.0025;

/// Rounds up, but for an excess within [`PRECISION`] of the value: less than one unit is ever cut off.
fn ceil(value: f64) -> f64 {
    let whole = value.floor();
    if value - whole <= value * PRECISION { whole } else { whole + 1.0 }
}

impl Millicores {
    /// From cores, rounded up to the next millicore, where the excess is more than [`PRECISION`] of the amount: 0.1 cores
    /// as a sketch knows them, × 1.2, are 120m and not 121m. NaN and negative values give zero, huge ones the maximum.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // `as` saturates, which is what we state
    pub fn from_cores_ceil(cores: f64) -> Self {
        Self(ceil(cores * 1000.0) as u64)
    }

    /// The same amount in cores.
    pub fn cores(self) -> f64 {
        self.0 as f64 / 1000.0
    }
}

impl Bytes {
    /// One mebibyte.
    pub const MIB: u64 = 1 << 20;

    /// From bytes as a float, rounded up to the next mebibyte, where the excess is more than [`PRECISION`] of the amount.
    /// NaN and negative values give zero.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // `as` saturates, which is what we state
    pub fn from_f64_ceil_mib(bytes: f64) -> Self {
        Self((ceil(bytes / Self::MIB as f64) as u64).saturating_mul(Self::MIB))
    }

    /// The same amount in bytes as a float.
    pub fn as_f64(self) -> f64 {
        self.0 as f64
    }
}

impl FromStr for Millicores {
    type Err = QuantityError;
    fn from_str(text: &str) -> Result<Self, QuantityError> {
        parse(text, 3).map(Self)
    }
}

impl FromStr for Bytes {
    type Err = QuantityError;
    fn from_str(text: &str) -> Result<Self, QuantityError> {
        parse(text, 0).map(Self)
    }
}

impl fmt::Display for Millicores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_multiple_of(1000) { write!(f, "{}", self.0 / 1000) } else { write!(f, "{}m", self.0) }
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shift, suffix) in [(60, "Ei"), (50, "Pi"), (40, "Ti"), (30, "Gi"), (20, "Mi"), (10, "Ki")] {
            if self.0 != 0 && self.0.is_multiple_of(1 << shift) {
                return write!(f, "{}{suffix}", self.0 >> shift);
            }
        }
        write!(f, "{}", self.0)
    }
}

/// Parses a measured amount, such as `123456789n` cores or `64Ki` bytes, without rounding it to a unit.
///
/// Exact where the digits and the divisor fit a double (fewer than 16 digits), else the nearest value to some 1e-15.
pub fn parse_f64(text: &str) -> Result<f64, QuantityError> {
    let Parts { mantissa, binary, decimal } = read(text)?;
    let mantissa = u64::try_from(mantissa).map_or(mantissa as f64, |short| short as f64); // far quicker from 64 bits
    let scaled = mantissa * (1_u64 << binary) as f64;
    let factor = power_of_ten(decimal.unsigned_abs());
    let value = if decimal < 0 { scaled / factor } else { scaled * factor };
    if value.is_finite() { Ok(value) } else { Err(QuantityError::TooLarge(text.to_owned())) }
}

/// Those that suffixes stand for are written down: to multiply them together takes longer than to read the digits.
fn power_of_ten(exponent: u32) -> f64 {
    const WRITTEN: [f64; 19] =
        [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18];
    WRITTEN.get(exponent as usize).copied().unwrap_or_else(|| 10f64.powi(exponent.cast_signed()))
}

/// Parses `text` into units of 10^-`decimals`, rounding up.
fn parse(text: &str, decimals: i32) -> Result<u64, QuantityError> {
    let too_large = || QuantityError::TooLarge(text.to_owned());
    let Parts { mantissa, binary, decimal } = read(text)?;
    let scaled = mantissa.checked_mul(1 << binary).ok_or_else(too_large)?;
    let value = shift_decimal_ceil(scaled, decimal + decimals).ok_or_else(too_large)?;
    u64::try_from(value).map_err(|_| too_large())
}

/// What a quantity says: `mantissa` × 2^`binary` × 10^`decimal`.
struct Parts {
    mantissa: u128,
    binary: u32,
    decimal: i32,
}

/// Reads `text` by the grammar of
/// <https://pkg.go.dev/k8s.io/apimachinery/pkg/api/resource#Quantity>; it allocates nothing but errors.
fn read(text: &str) -> Result<Parts, QuantityError> {
    let syntax = || QuantityError::Syntax(text.to_owned());
    let too_large = || QuantityError::TooLarge(text.to_owned());
    let (unsigned, negative) = match text.as_bytes().first() {
        Some(b'-') => (text.get(1..).unwrap_or(""), true),
        Some(b'+') => (text.get(1..).unwrap_or(""), false),
        _ => (text, false),
    };
    let end = unsigned.bytes().position(|byte| !byte.is_ascii_digit() && byte != b'.').unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return Err(syntax());
    }
    let (binary, exponent) = scale(suffix).ok_or_else(syntax)?;
    let fraction = fraction.trim_end_matches('0');
    let mantissa = mantissa(whole, fraction).ok_or_else(too_large)?;
    if negative && mantissa != 0 {
        return Err(QuantityError::Negative(text.to_owned()));
    }
    let places = i32::try_from(fraction.len()).map_err(|_| too_large())?;
    Ok(Parts { mantissa, binary, decimal: exponent - places })
}

/// The digits as one number; `None` where 128 bits are too few. Up to 19 digits fit 64 bits, as nearly all do: a scrape of
/// a large cluster has half a million amounts.
fn mantissa(whole: &str, fraction: &str) -> Option<u128> {
    if fraction.is_empty() && whole.len() <= 19 {
        return Some(whole.bytes().fold(0_u64, |sum, digit| sum * 10 + u64::from(digit - b'0')).into());
    }
    let mut digits = whole.bytes().chain(fraction.bytes());
    digits.try_fold(0_u128, |sum, digit| sum.checked_mul(10)?.checked_add(u128::from(digit - b'0')))
}

/// The power of two and the power of ten that a suffix stands for.
fn scale(suffix: &str) -> Option<(u32, i32)> {
    Some(match suffix.as_bytes() {
        b"" => (0, 0),
        b"n" => (0, -9),
        b"u" => (0, -6),
        b"m" => (0, -3),
        b"k" => (0, 3),
        b"M" => (0, 6),
        b"G" => (0, 9),
        b"T" => (0, 12),
        b"P" => (0, 15),
        b"E" => (0, 18),
        b"Ki" => (10, 0),
        b"Mi" => (20, 0),
        b"Gi" => (30, 0),
        b"Ti" => (40, 0),
        b"Pi" => (50, 0),
        b"Ei" => (60, 0),
        _ => {
            let digits = suffix.strip_prefix(['e', 'E'])?;
            let exponent: i32 = digits.parse().ok()?;
            (0, (-40..=40).contains(&exponent).then_some(exponent)?)
        }
    })
}

/// `value` × 10^`power`, rounded up; `None` when it does not fit.
fn shift_decimal_ceil(value: u128, power: i32) -> Option<u128> {
    if value == 0 {
        return Some(0);
    }
    match 10u128.checked_pow(power.unsigned_abs()) {
        Some(factor) if power >= 0 => value.checked_mul(factor),
        Some(factor) => Some(value.div_ceil(factor)),
        None => (power < 0).then_some(1),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)] // a test that panics has failed
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn spellings_of_the_kubernetes_documentation_parse_exactly() {
        for (text, milli) in [
            ("100m", 100),
            ("0.1", 100),
            ("1", 1000),
            ("1.5", 1500),
            ("2e3m", 0),
            ("1e3", 1_000_000),
            ("123456789n", 124),
            ("1u", 1),
            ("0", 0),
            ("+2", 2000),
            (".5", 500),
            ("3.", 3000),
            ("2k", 2_000_000),
        ] {
            if text == "2e3m" {
                assert_eq!(text.parse::<Millicores>(), Err(QuantityError::Syntax(text.into())));
            } else {
                assert_eq!(text.parse(), Ok(Millicores(milli)), "{text}");
            }
        }
        for (text, bytes) in [
            ("128Mi", 134_217_728),
            ("1Gi", 1 << 30),
            ("1G", 1_000_000_000),
            ("1.5Gi", 1_610_612_736),
            ("128m", 1),
            ("1e9", 1_000_000_000),
            ("1E", 1_000_000_000_000_000_000),
            ("0.5Ki", 512),
        ] {
            assert_eq!(text.parse(), Ok(Bytes(bytes)), "{text}");
        }
    }

    #[test]
    fn malformed_negative_and_huge_values_are_refused() {
        for text in ["", "abc", "1.2.3", "100mm", "512MB", "1e", "-", ".", "1 Gi", "e3", "1e99", "--1", "é"] {
            assert!(matches!(text.parse::<Bytes>(), Err(QuantityError::Syntax(_))), "{text}");
        }
        assert_eq!("-1".parse::<Bytes>(), Err(QuantityError::Negative("-1".into())));
        assert_eq!("100E".parse::<Bytes>(), Err(QuantityError::TooLarge("100E".into())));
        assert_eq!("9".repeat(60).parse::<Bytes>(), Err(QuantityError::TooLarge("9".repeat(60))));
    }

    #[test]
    fn values_print_in_their_shortest_exact_spelling() {
        assert_eq!(Millicores(1500).to_string(), "1500m");
        assert_eq!(Millicores(2000).to_string(), "2");
        assert_eq!(Bytes(256 << 20).to_string(), "256Mi");
        assert_eq!(Bytes(3 << 29).to_string(), "1536Mi");
        assert_eq!(Bytes(1001).to_string(), "1001");
        assert_eq!(Bytes(0).to_string(), "0");
    }

    #[test]
    fn floats_round_up_beyond_the_precision_of_a_sketch() {
        assert_eq!(Millicores::from_cores_ceil(0.1), Millicores(100));
        assert_eq!(Millicores::from_cores_ceil(0.100_4), Millicores(101));
        assert_eq!(Millicores::from_cores_ceil(0.100_1), Millicores(100), "0.1 cores as a sketch may know them");
        assert_eq!(Millicores::from_cores_ceil(f64::NAN), Millicores(0));
        assert_eq!(Bytes::from_f64_ceil_mib(1.0), Bytes(Bytes::MIB));
        assert_eq!(Bytes::from_f64_ceil_mib(1e30), Bytes(u64::MAX));
        assert_eq!(Bytes::from_f64_ceil_mib(2.0 * 1_048_576.0), Bytes(2 * Bytes::MIB));
    }

    #[test]
    fn measured_amounts_keep_their_nano_precision() {
        for (text, value) in [
            ("123456789n", 0.123_456_789),
            ("1n", 1e-9),
            ("250m", 0.25),
            ("17u", 17e-6),
            ("2", 2.0),
            ("1.5Gi", 1_610_612_736.0),
            ("64Ki", 65_536.0),
            ("1e3", 1000.0),
            ("0", 0.0),
        ] {
            assert_eq!(parse_f64(text), Ok(value), "{text}");
        }
        assert_eq!(parse_f64("-5n"), Err(QuantityError::Negative("-5n".into())));
        assert_eq!(parse_f64("NaN"), Err(QuantityError::Syntax("NaN".into())));
        assert_eq!(parse_f64("1.2.3"), Err(QuantityError::Syntax("1.2.3".into())));
    }

    proptest! {
        #[test]
        fn a_measured_amount_rounds_up_to_the_same_millicores(nanos in 0u64..1 << 50) {
            let text = format!("{nanos}n");
            prop_assert_eq!(parse_f64(&text), Ok(nanos as f64 / 1e9));
            prop_assert_eq!(text.parse(), Ok(Millicores(nanos.div_ceil(1_000_000))));
        }

        #[test]
        fn printed_amounts_parse_back(value in any::<u64>()) {
            prop_assert_eq!(Millicores(value).to_string().parse(), Ok(Millicores(value)));
            prop_assert_eq!(Bytes(value).to_string().parse(), Ok(Bytes(value)));
        }

        #[test]
        fn any_text_parses_or_errs_without_panic(text in ".{0,40}") {
            let _ = text.parse::<Millicores>();
            let _ = text.parse::<Bytes>();
        }
    }
}
