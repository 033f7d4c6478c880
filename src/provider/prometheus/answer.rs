//! Answers of the query API, read from bytes. Pure.
//!
//! Any bytes may come. Invariant: what is read takes no more than a small multiple of the bytes, which the client bounds;
//! a value that is no number is no value.

use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

/// A series, or at one moment its value.
#[derive(Deserialize, Debug)]
pub struct Series<'a> {
    /// The labels.
    #[serde(borrow)]
    metric: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
    #[serde(default)]
    values: Vec<Point>,
    value: Option<Point>,
}

impl Series<'_> {
    /// A label's value; empty where there is no such label, as in PromQL.
    pub fn label(&self, name: &str) -> &str {
        self.metric.get(name).map_or("", AsRef::as_ref)
    }

    /// Time in Unix seconds and value, where that is a usage: a finite number and not negative.
    pub fn points(&self) -> impl Iterator<Item = (f64, f64)> {
        let points = self.value.iter().chain(&self.values).map(|Point(at, Number(value))| (*at, *value));
        points.filter(|(_, value)| value.is_finite() && *value >= 0.0)
    }
}

/// What an answer holds.
#[derive(Debug)]
pub struct Answer<'a> {
    /// The series.
    pub series: Vec<Series<'a>>,
    /// Why something may be missing from it, in the server's words.
    pub missing: Option<String>,
}

#[derive(Deserialize, Debug)]
struct Point(f64, Number);

#[derive(Debug)]
struct Number(f64);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumberVisitor)
    }
}

struct NumberVisitor;

impl Visitor<'_> for NumberVisitor {
    type Value = Number;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number in quotes")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Number, E> {
        text.parse().map(Number).map_err(|_| E::custom(format!("{text:?} is no number")))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Number, E> {
        Ok(Number(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Number, E> {
        Ok(Number(value as f64))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Number, E> {
        Ok(Number(value as f64))
    }

    fn visit_unit<E>(self) -> Result<Number, E> {
        Ok(Number(f64::NAN))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope<'a> {
    status: Cow<'a, str>,
    #[serde(borrow)]
    data: Option<Data<'a>>,
    error: Option<String>,
    #[serde(default)]
    warnings: Option<Vec<String>>,
    #[serde(default)]
    is_partial: bool,
}

#[derive(Deserialize)]
struct Data<'a> {
    #[serde(borrow)]
    result: Vec<Series<'a>>,
}

/// Reads the answer to a question.
///
/// # Errors
/// What is wrong with it, in a few words.
pub fn read(body: &[u8]) -> Result<Answer<'_>, String> {
    let envelope: Envelope<'_> = serde_json::from_slice(body)
        .map_err(|error| format!("the answer is not what Prometheus answers: {}", shortened(&error.to_string())))
        .map_err(|cause| format!("{cause}; check prometheus.url: is a login page there, or a proxy?"))?;
    if envelope.status != "success" {
        return Err(format!("the server says: {}", shortened(envelope.error.as_deref().unwrap_or("no reason"))));
    }
    let data = envelope.data.ok_or("the answer has no data")?;
    let mut warnings = envelope.warnings.unwrap_or_default();
    warnings.retain(|warning| !warning.starts_with("PromQL ")); // remarks on the question
    let partial = envelope.is_partial.then(|| "the server says that its answer is partial".to_owned());
    let missing = warnings.first().map(|warning| shortened(warning)).or(partial);
    Ok(Answer { series: data.result, missing })
}

/// What a server says to a question that it does not answer, in a line.
pub fn read_error(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Failed {
        error: String,
    }
    match serde_json::from_slice(body) {
        Ok(Failed { error }) => shortened(&error),
        Err(_) => shortened(&String::from_utf8_lossy(body.get(..1000).unwrap_or(body))),
    }
}

/// One line of at most 200 characters.
fn shortened(text: &str) -> String {
    let mut words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let mut line = words.next().unwrap_or_default().to_owned();
    for word in words.take(100) {
        line.push(' ');
        line.push_str(word);
    }
    match line.char_indices().nth(200) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
        None => line,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)] // a test that panics has failed
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matrix(values: &str, more: &str) -> String {
        format!(
            r#"{{"status":"success"{more},"data":{{"resultType":"matrix","result":[{{"metric":{{"pod":"web-0","a\"b":"ü"}},"values":[{values}]}}]}}}}"#
        )
    }

    #[test]
    fn numbers_come_in_quotes_and_what_is_no_usage_is_left_out() {
        let body = matrix(r#"[1.5,"0.25"],[2,"NaN"],[3,"+Inf"],[4,"-Inf"],[5,null],[6,"-1"],[7,"1e-3"],[8,"-0"]"#, "");
        let answer = read(body.as_bytes()).unwrap();
        assert_eq!(answer.series[0].points().collect::<Vec<_>>(), [(1.5, 0.25), (7.0, 0.001), (8.0, -0.0)]);
        assert_eq!((answer.series[0].label("pod"), answer.series[0].label("job")), ("web-0", ""));
        assert_eq!(answer.missing, None);
    }

    #[test]
    fn a_value_of_one_moment_is_read_as_a_point() {
        let body = r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[9,"3"]}]}}"#;
        assert_eq!(read(body.as_bytes()).unwrap().series[0].points().collect::<Vec<_>>(), [(9.0, 3.0)]);
    }

    #[test]
    fn what_may_be_missing_is_said() {
        for (more, expected) in [
            (r#","isPartial":true"#, Some("partial")),
            (r#","isPartial":false,"warnings":null"#, None),
            (r#","warnings":["store  10.0.0.1\nis gone"]"#, Some("store 10.0.0.1 is gone")),
            (r#","infos":["metric might not be a counter"]"#, None),
            (r#","warnings":["PromQL info: metric might not be a counter"]"#, None),
            (r#","warnings":["PromQL info: x"],"isPartial":true"#, Some("partial")),
        ] {
            let body = matrix("", more);
            let missing = read(body.as_bytes()).unwrap().missing;
            assert_eq!(missing.is_some(), expected.is_some(), "{more}: {missing:?}");
            assert!(missing.unwrap_or_default().contains(expected.unwrap_or_default()), "{more}");
        }
    }

    #[test]
    fn what_is_no_answer_is_an_error_that_says_why() {
        for (body, part) in [
            ("", "not what Prometheus answers"),
            ("<html>login</html>", "not what Prometheus answers"),
            (r#"{"status":"success"}"#, "no data"),
            (r#"{"status":"error","error":"too many"}"#, "too many"),
            (r#"{"status":"success","data":{"resultType":"scalar","result":[1,"1"]}}"#, "not what Prometheus answers"),
            (r#"{"status":"success","data":{"result":[{"metric":{},"values":[[1,"x"]]}]}}"#, "\"x\" is no number"),
        ] {
            let error = read(body.as_bytes()).unwrap_err();
            assert!(error.contains(part), "{body}: {error}");
        }
        assert_eq!(read_error(br#"{"status":"error","errorType":"bad_data","error":"parse error"}"#), "parse error");
        assert_eq!(read_error(b"upstream\n\n  failed"), "upstream failed");
        assert_eq!(read_error("ü".repeat(900).as_bytes()).chars().count(), 201);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in any::<prop::sample::Index>()) {
            let _ = (read(&bytes).is_ok(), read_error(&bytes));
            let mut body = matrix(r#"[1,"2"],[3,"4"]"#, r#","warnings":["x"]"#).into_bytes();
            let at = cut.index(body.len());
            prop_assert!(read(&body[..at]).is_err());
            body[at] ^= bytes.first().copied().unwrap_or(1);
            let _ = read(&body).is_ok();
        }

        #[test]
        fn every_finite_number_comes_back_as_it_was(values in prop::collection::vec(0.0..1e12f64, 0..30)) {
            let text: Vec<_> = values.iter().enumerate().map(|(at, value)| format!("[{at},\"{value}\"]")).collect();
            let body = matrix(&text.join(","), "");
            let read: Vec<f64> = read(body.as_bytes()).unwrap().series[0].points().map(|(_, value)| value).collect();
            prop_assert_eq!(read, values);
        }
    }
}
