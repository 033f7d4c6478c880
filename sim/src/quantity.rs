//! Kubernetes quantities: exact parsing, and the canonical spelling that the real server stores.
//!
//! The simulation has its own parser because it must not share a mistake with what it tests.
//! What it may not know: which field holds the quantity.
//! Invariant: values are exact in units of 10⁻⁹; anything finer is rounded up, as in Go.

const NANO: i128 = 1_000_000_000;
const BINARY: [(&str, u32); 6] = [("Ei", 60), ("Pi", 50), ("Ti", 40), ("Gi", 30), ("Mi", 20), ("Ki", 10)];
const DECIMAL: [(&str, i32); 10] =
    [("E", 18), ("P", 15), ("T", 12), ("G", 9), ("M", 6), ("k", 3), ("", 0), ("m", -3), ("u", -6), ("n", -9)];

/// How a quantity was spelled, which decides how it is spelled back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Binary,
    Decimal,
    Exponent,
}

/// An exact amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quantity {
    nanos: i128,
    format: Format,
}

impl Quantity {
    /// Parses `100m`, `1.5`, `128Mi`, `2e3`; `None` where the real server would refuse the text.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let digits_end = text
            .char_indices()
            .find(|(at, c)| !(c.is_ascii_digit() || *c == '.' || (*at == 0 && "+-".contains(*c))))
            .map_or(text.len(), |(at, _)| at);
        let (number, suffix) = text.split_at_checked(digits_end)?;
        let (mantissa, decimals) = mantissa(number)?;
        let (multiplier, exponent, format) = suffix_scale(suffix)?;
        let power = 9 + exponent - i32::try_from(decimals).ok()?;
        let scaled = mantissa.checked_mul(multiplier)?;
        let nanos = scale_rounding_up(scaled, power)?;
        Some(Self { nanos, format })
    }

    /// From a JSON string or number, as `IntOrString` fields and plain numbers allow.
    pub(crate) fn from_json(value: &serde_json::Value) -> Option<Self> {
        match value {
            serde_json::Value::String(text) => Self::parse(text),
            serde_json::Value::Number(number) => Self::parse(&number.to_string()),
            _ => None,
        }
    }

    /// A whole number of bytes or cores.
    pub(crate) fn whole(value: i64) -> Self {
        Self { nanos: i128::from(value) * NANO, format: Format::Decimal }
    }

    /// An amount of memory, spelt with binary units.
    pub(crate) fn kibibytes(value: u64) -> Self {
        Self { nanos: (i128::from(value) << 10) * NANO, format: Format::Binary }
    }

    /// The amount in units of 10⁻⁹.
    pub(crate) fn nanos(self) -> i128 {
        self.nanos
    }

    /// The amount in thousandths, rounded up.
    pub(crate) fn millis(self) -> i128 {
        div_up(self.nanos, 1_000_000)
    }

    /// The amount in whole units, rounded up.
    pub(crate) fn units(self) -> i128 {
        div_up(self.nanos, NANO)
    }

    /// The amount as a floating-point number.
    pub(crate) fn as_f64(self) -> f64 {
        self.nanos as f64 / NANO as f64
    }

    /// The sum, spelled like the first.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self { nanos: self.nanos + other.nanos, ..self }
    }

    /// The difference, spelled like the first.
    pub(crate) fn minus(self, other: Self) -> Self {
        Self { nanos: self.nanos - other.nanos, ..self }
    }

    /// The spelling that the real server stores and answers.
    pub(crate) fn canonical(self) -> String {
        match self.format {
            Format::Binary if self.nanos % NANO == 0 => binary(self.nanos / NANO),
            Format::Exponent => exponent(self.nanos),
            Format::Binary | Format::Decimal => decimal(self.nanos),
        }
    }
}

fn mantissa(number: &str) -> Option<(i128, usize)> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits: String = [whole, fraction].concat();
    if !digits.contains(|c: char| c.is_ascii_digit()) || fraction.contains('.') {
        return None;
    }
    Some((digits.parse().ok()?, fraction.len()))
}

fn suffix_scale(suffix: &str) -> Option<(i128, i32, Format)> {
    if let Some((_, bits)) = BINARY.iter().find(|(name, _)| *name == suffix) {
        return Some((1_i128 << bits, 0, Format::Binary));
    }
    if let Some((_, power)) = DECIMAL.iter().find(|(name, _)| *name == suffix) {
        return Some((1, *power, Format::Decimal));
    }
    let power = suffix.strip_prefix(['e', 'E'])?;
    Some((1, power.parse().ok()?, Format::Exponent))
}

fn scale_rounding_up(value: i128, power: i32) -> Option<i128> {
    let factor = 10_i128.checked_pow(power.unsigned_abs())?;
    if power >= 0 { value.checked_mul(factor) } else { Some(div_up(value, factor)) }
}

fn div_up(value: i128, by: i128) -> i128 {
    value.div_euclid(by) + i128::from(value.rem_euclid(by) != 0)
}

fn binary(units: i128) -> String {
    BINARY
        .iter()
        .find(|(_, bits)| units != 0 && units % (1_i128 << bits) == 0)
        .map_or_else(|| units.to_string(), |(name, bits)| format!("{}{name}", units >> bits))
}

fn decimal(nanos: i128) -> String {
    if nanos == 0 {
        return "0".to_owned();
    }
    DECIMAL
        .iter()
        .find_map(|(name, power)| {
            let factor = 10_i128.checked_pow(u32::try_from(power + 9).ok()?)?;
            (nanos % factor == 0).then(|| format!("{}{name}", nanos / factor))
        })
        .unwrap_or_else(|| format!("{nanos}n"))
}

fn exponent(nanos: i128) -> String {
    let mut power: i32 = 18;
    while power > -9 && nanos % 10_i128.pow((power + 9).unsigned_abs()) != 0 {
        power -= 3;
    }
    let value = nanos / 10_i128.pow((power + 9).unsigned_abs());
    if power == 0 { value.to_string() } else { format!("{value}e{power}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_spelling_is_the_real_servers() {
        // Oracle: resource.MustParse(x).String() in k8s.io/apimachinery.
        for (given, wanted) in [
            ("1000m", "1"),
            ("0.5", "500m"),
            ("1500m", "1500m"),
            ("1024Mi", "1Gi"),
            ("1000Mi", "1000Mi"),
            ("0.5Gi", "512Mi"),
            ("134217728", "134217728"),
            ("1000k", "1M"),
            ("2e3", "2e3"),
            ("0", "0"),
            ("100u", "100u"),
            ("1.5Ki", "1536"),
        ] {
            let parsed = Quantity::parse(given).unwrap();
            assert_eq!(parsed.canonical(), wanted, "{given}");
        }
    }

    #[test]
    fn what_the_real_server_refuses_does_not_parse() {
        for text in ["", "abc", "100mm", "1.2.3", "Mi", "512MB", "1 Gi"] {
            assert_eq!(Quantity::parse(text), None, "{text}");
        }
    }

    #[test]
    fn amounts_are_exact_and_round_up() {
        assert_eq!(Quantity::parse("100m").unwrap().millis(), 100);
        assert_eq!(Quantity::parse("128Mi").unwrap().units(), 134_217_728);
        assert_eq!(Quantity::parse("0.1n").unwrap().nanos(), 1);
        assert_eq!(Quantity::parse("128m").unwrap().units(), 1);
    }

    proptest::proptest! {
        #[test]
        fn the_canonical_spelling_says_the_same_amount(
            number in 0_u32..5_000_000, suffix in "(|m|k|M|Mi|Gi|Ki|u)",
        ) {
            let given = Quantity::parse(&format!("{number}{suffix}")).unwrap();
            let again = Quantity::parse(&given.canonical()).unwrap();
            proptest::prop_assert_eq!(again.nanos(), given.nanos());
            proptest::prop_assert_eq!(again.canonical(), given.canonical());
        }
    }
}
