//! Durations as policies write them: one whole number and one unit of `s`, `m`, `h` or `d`.
//!
//! The same pattern stands in the CRD's schema, because Go's durations have no days and `format: duration` takes garbage.

use std::time::Duration;

/// A text that is not such a duration.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("\"{0}\" is not a duration; write a whole number above 0 and one of s, m, h or d, for example 30m, 24h or 7d")]
pub struct DurationError(pub String);

/// Parses `30m`, `24h`, `7d`.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let error = || DurationError(text.to_owned());
    let split = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(error)?;
    let (number, unit) = text.split_at(split);
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(error()),
    };
    if number.len() > 6 || number.starts_with('0') {
        return Err(error());
    }
    let number: u64 = number.parse().map_err(|_| error())?;
    Ok(Duration::from_secs(number * seconds))
}

/// Prints a duration in the largest unit that divides it: `7d`, `36h`, `90m`, `61s`.
pub fn format(duration: Duration) -> String {
    let seconds = duration.as_secs();
    for (size, unit) in [(86_400, 'd'), (3600, 'h'), (60, 'm')] {
        if seconds >= size && seconds.is_multiple_of(size) {
            return format!("{}{unit}", seconds / size);
        }
    }
    format!("{seconds}s")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_with_one_unit_parse() {
        for (text, seconds) in [("10s", 10), ("5m", 300), ("24h", 86_400), ("30d", 2_592_000)] {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)));
            assert_eq!(parse(&format(Duration::from_secs(seconds))), Ok(Duration::from_secs(seconds)));
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "24", "h", "1h30m", "0m", "25x", "1 day", "-1h", "1234567s", "1H"] {
            assert_eq!(parse(text), Err(DurationError(text.into())), "{text}");
        }
    }
}
