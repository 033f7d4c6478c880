//! The questions, as PromQL. Pure.
//!
//! Invariant: names and matchers reach a query only escaped or checked, so that none can say more than a label's value.

use std::fmt::Write as _;
use std::time::Duration;

/// A matcher that is none.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("\"{0}\" is no matcher; write label=\"value\", or with !=, =~ or !~, for example cluster=\"prod\"")]
pub struct MatcherError(String);

/// One more condition on every series, such as `cluster="prod"`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Matcher(String);

impl std::str::FromStr for Matcher {
    type Err = MatcherError;

    /// Takes `label="value"` with `=`, `!=`, `=~` or `!~`. A backslash in the value stands before `"` or `\` only.
    fn from_str(text: &str) -> Result<Self, MatcherError> {
        let error = || MatcherError(text.to_owned());
        let text = text.trim();
        let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).ok_or_else(error)?;
        let (label, rest) = text.split_at(end);
        let quoted = ["=~", "!~", "!=", "="].iter().find_map(|op| rest.strip_prefix(op)).ok_or_else(error)?;
        let value = quoted.strip_prefix('"').and_then(|value| value.strip_suffix('"')).ok_or_else(error)?;
        let is_label = label.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if is_label && is_inside_quotes(value) { Ok(Self(text.to_owned())) } else { Err(error()) }
    }
}

/// Whether the text, put between quotes, is one string of PromQL.
fn is_inside_quotes(text: &str) -> bool {
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let is_allowed = match c {
            '"' | '\n' => false,
            '\\' => matches!(chars.next(), Some('"' | '\\')),
            _ => true,
        };
        if !is_allowed {
            return false;
        }
    }
    true
}

/// A value between quotes.
fn quote(value: &str) -> String {
    let mut quoted = String::with_capacity(value.len() + 2);
    quoted.push('"');
    for c in value.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// A text that as a regular expression (RE2) matches itself.
fn literal(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if !(c.is_ascii_alphanumeric() || c == '-' || c == '_') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

/// A regular expression for pods whose names begin with one of `prefixes`, or are one of `names`.
pub fn pods_like<'a>(prefixes: impl IntoIterator<Item = &'a str>, names: impl IntoIterator<Item = &'a str>) -> String {
    let prefixes = prefixes.into_iter().map(|prefix| format!("{}.*", literal(prefix)));
    prefixes.chain(names.into_iter().map(literal)).collect::<Vec<_>>().join("|")
}

/// Which series: those of a namespace, and of some of its pods.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Scope {
    /// `namespace="…"` and the extra matchers.
    matchers: String,
    /// `,pod=~"…"`, or nothing.
    pods: String,
}

impl Scope {
    /// All pods of a namespace.
    pub fn new(namespace: &str, extra: &[Matcher]) -> Self {
        let mut matchers = format!("namespace={}", quote(namespace));
        for Matcher(matcher) in extra {
            let _ = write!(matchers, ",{matcher}"); // to a String: cannot fail
        }
        Self { matchers, pods: String::new() }
    }

    /// Only pods that this regular expression matches wholly, as PromQL does.
    #[must_use]
    pub fn of_pods(self, regex: &str) -> Self {
        Self { pods: format!(",pod=~{}", quote(regex)), ..self }
    }

    /// Real containers: not the sandbox (`POD`), and not the pod's own cgroup, which has no container's name.
    fn containers(&self, metric: &str) -> String {
        format!("{metric}{{{}{},container!=\"\",container!=\"POD\"}}", self.matchers, self.pods)
    }

    /// Kubernetes objects with their controllers; of those without any, kube-state-metrics says `<none>`.
    fn owned(&self, metric: &str, range: Duration) -> String {
        format!("max_over_time({metric}{{{},owner_is_controller!=\"false\"}}[{}s])", self.matchers, range.as_secs())
    }
}

const CPU: &str = "container_cpu_usage_seconds_total";
const MEMORY: &str = "container_memory_working_set_bytes";

/// `max`: two scrapers of one container, and a container that was restarted, are one container.
fn per_container(of: &str) -> String {
    format!("max by (pod, container) ({of})")
}

/// Cores used on average over `range`, per container; resets of the counter are seen to by `rate`.
pub fn cpu(scope: &Scope, range: Duration) -> String {
    per_container(&format!("rate({}[{}s])", scope.containers(CPU), range.as_secs()))
}

/// The last working set within `range` in bytes, per container.
pub fn memory(scope: &Scope, range: Duration) -> String {
    per_container(&format!("last_over_time({}[{}s])", scope.containers(MEMORY), range.as_secs()))
}

/// The largest working set within `range` in bytes, per container.
pub fn memory_peak(scope: &Scope, range: Duration) -> String {
    per_container(&format!("max_over_time({}[{}s])", scope.containers(MEMORY), range.as_secs()))
}

/// How many samples of the working set lie within `range`, per container.
pub fn scrapes(scope: &Scope, range: Duration) -> String {
    per_container(&format!("count_over_time({}[{}s])", scope.containers(MEMORY), range.as_secs()))
}

/// The controllers of the pods that were there within `range`, from kube-state-metrics.
pub fn pod_owners(scope: &Scope, range: Duration) -> String {
    format!("max by (pod, owner_kind, owner_name) ({})", scope.owned("kube_pod_owner", range))
}

/// The same of replicasets.
pub fn replicaset_owners(scope: &Scope, range: Duration) -> String {
    format!("max by (replicaset, owner_kind, owner_name) ({})", scope.owned("kube_replicaset_owner", range))
}

/// The same of jobs.
pub fn job_owners(scope: &Scope, range: Duration) -> String {
    format!("max by (job_name, owner_kind, owner_name) ({})", scope.owned("kube_job_owner", range))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)] // a test that panics has failed
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn questions_name_the_namespace_the_extra_matchers_and_real_containers_only() {
        let extra = ["cluster=\"prod\"", "env=~\"p.*\""].map(|text| text.parse().unwrap());
        let scope = Scope::new("shop", &extra).of_pods("web.*");
        assert_eq!(
            cpu(&scope, Duration::from_mins(2)),
            "max by (pod, container) (rate(container_cpu_usage_seconds_total{namespace=\"shop\",cluster=\"prod\",\
             env=~\"p.*\",pod=~\"web.*\",container!=\"\",container!=\"POD\"}[120s]))"
        );
        assert_eq!(
            pod_owners(&scope, Duration::from_hours(1)),
            "max by (pod, owner_kind, owner_name) (max_over_time(kube_pod_owner{namespace=\"shop\",cluster=\"prod\",\
             env=~\"p.*\",owner_is_controller!=\"false\"}[3600s]))"
        );
    }

    #[test]
    fn a_matcher_says_one_thing_about_one_label() {
        for good in [r#"a="b""#, r#" a_1!="x,y" "#, r#"a=~"p|q\\.r""#, r#"a!~"\"""#, r#"a="""#] {
            assert!(good.parse::<Matcher>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "a",
            "a=b",
            r#"a="b"#,
            r#"1a="b""#,
            r#"="b""#,
            r#"a="b",c="d""#,
            r#"a="b\""#,
            r#"a=="b""#,
            "a=\"\n\"",
            r#"a="\d""#,
        ] {
            assert!(bad.parse::<Matcher>().is_err(), "{bad}");
        }
    }

    /// Reads a quoted string as PromQL does, whose strings are Go's.
    fn unquote(quoted: &str) -> String {
        let mut out = String::new();
        let mut chars = quoted.strip_prefix('"').unwrap().strip_suffix('"').unwrap().chars();
        while let Some(c) = chars.next() {
            assert!(c != '"' && c != '\n', "it ends early: {quoted}");
            out.push(match c {
                '\\' => match chars.next().unwrap() {
                    'n' => '\n',
                    c => c,
                },
                c => c,
            });
        }
        out
    }

    proptest! {
        #[test]
        fn what_is_quoted_is_read_back(text in any::<String>()) {
            prop_assert_eq!(unquote(&quote(&text)), text);
        }

        #[test]
        fn a_pattern_of_pods_takes_its_names_and_what_begins_with_its_prefixes(
            prefix in "[a-z0-9.-]{1,9}", name in "[a-z0-9.-]{1,9}", other in "[a-z0-9.-]{0,9}"
        ) {
            let pattern = regex::Regex::new(&format!("^(?:{})$", pods_like([prefix.as_str()], [name.as_str()]))).unwrap();
            let expected = |pod: &str| pod.starts_with(&prefix) || pod == name;
            for pod in [other.clone(), name.clone(), format!("{prefix}{other}"), format!("{name}{other}")] {
                prop_assert_eq!(pattern.is_match(&pod), expected(&pod), "{}", pod);
            }
        }
    }
}
