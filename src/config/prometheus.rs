//! Settings of the usage provider `prometheus`.

use super::{ConfigError, duration_between};
use crate::provider::prometheus::{Matcher, PrometheusOptions};
use clap::Args;
use serde::{Deserialize, Serialize, Serializer};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Which server answers PromQL, and how it is asked. Without a URL there is no such provider.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PrometheusSettings {
    /// Where it answers, without `/api/v1`, such as `http://prometheus.monitoring:9090`.
    pub url: Option<String>,
    /// File with a bearer token; read anew with each request, like all files here.
    pub bearer_token_file: Option<PathBuf>,
    /// User of basic authentication.
    pub basic_auth_user: Option<String>,
    /// File with that user's password.
    pub basic_auth_password_file: Option<PathBuf>,
    /// File with the certificates of the authorities to trust, in place of the system's.
    pub ca_file: Option<PathBuf>,
    /// File with the client's certificate chain.
    pub cert_file: Option<PathBuf>,
    /// File with the client's private key.
    pub key_file: Option<PathBuf>,
    /// Headers for each request, such as `X-Scope-OrgID: tenant`; not for secrets.
    pub headers: BTreeMap<String, String>,
    /// Conditions on every series, such as `cluster="prod"`.
    pub matchers: Vec<String>,
    /// The deadline of one request.
    pub timeout: String,
    /// Requests under way at once.
    pub max_concurrency: usize,
}

impl Default for PrometheusSettings {
    fn default() -> Self {
        Self {
            url: None,
            bearer_token_file: None,
            basic_auth_user: None,
            basic_auth_password_file: None,
            ca_file: None,
            cert_file: None,
            key_file: None,
            headers: BTreeMap::new(),
            matchers: Vec::new(),
            timeout: "30s".to_owned(),
            max_concurrency: 4,
        }
    }
}

/// The same as flags and environment variables, each optional.
#[derive(Args, Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PrometheusFlags {
    /// Where a server answers PromQL, without /api/v1, for policies with provider: prometheus
    #[arg(
        id = "prometheus_url",
        long = "prometheus-url",
        env = "OPTIPOD_PROMETHEUS_URL",
        value_name = "URL",
        global = true
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// File with a bearer token for Prometheus
    #[arg(
        id = "prometheus_bearer_token_file",
        long = "prometheus-bearer-token-file",
        env = "OPTIPOD_PROMETHEUS_BEARER_TOKEN_FILE",
        value_name = "FILE",
        global = true
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bearer_token_file: Option<PathBuf>,
    /// User for Prometheus
    #[arg(
        id = "prometheus_basic_auth_user",
        long = "prometheus-basic-auth-user",
        env = "OPTIPOD_PROMETHEUS_BASIC_AUTH_USER",
        value_name = "USER",
        global = true
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub basic_auth_user: Option<String>,
    /// File with that user's password
    #[arg(
        id = "prometheus_basic_auth_password_file",
        long = "prometheus-basic-auth-password-file",
        env = "OPTIPOD_PROMETHEUS_BASIC_AUTH_PASSWORD_FILE",
        value_name = "FILE",
        global = true
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub basic_auth_password_file: Option<PathBuf>,
    /// File with the authorities to trust for Prometheus, in place of the system's
    #[arg(
        id = "prometheus_ca_file",
        long = "prometheus-ca-file",
        env = "OPTIPOD_PROMETHEUS_CA_FILE",
        value_name = "FILE",
        global = true
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// File with a client certificate for Prometheus
    #[arg(
        id = "prometheus_cert_file",
        long = "prometheus-cert-file",
        env = "OPTIPOD_PROMETHEUS_CERT_FILE",
        value_name = "FILE",
        global = true
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_file: Option<PathBuf>,
    /// File with that certificate's private key
    #[arg(
        id = "prometheus_key_file",
        long = "prometheus-key-file",
        env = "OPTIPOD_PROMETHEUS_KEY_FILE",
        value_name = "FILE",
        global = true
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
    /// Header for each request to Prometheus, such as X-Scope-OrgID=tenant; may be given again
    #[arg(id = "prometheus_header", long = "prometheus-header", value_name = "NAME=VALUE", value_parser = header, global = true)]
    #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "as_map")]
    pub headers: Vec<(String, String)>,
    /// Condition on every series, such as cluster="prod"; may be given again
    #[arg(id = "prometheus_matcher", long = "prometheus-matcher", value_name = "MATCHER", global = true)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub matchers: Vec<String>,
    /// Deadline of one request to Prometheus
    #[arg(
        id = "prometheus_timeout",
        long = "prometheus-timeout",
        env = "OPTIPOD_PROMETHEUS_TIMEOUT",
        value_name = "DURATION",
        global = true
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// Requests to Prometheus under way at once
    #[arg(
        id = "prometheus_max_concurrency",
        long = "prometheus-max-concurrency",
        env = "OPTIPOD_PROMETHEUS_MAX_CONCURRENCY",
        value_name = "N",
        global = true
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_concurrency: Option<usize>,
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE, for example X-Scope-OrgID=tenant")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

fn as_map<S: Serializer>(pairs: &[(String, String)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(pairs.iter().map(|(name, value)| (name, value)))
}

impl PrometheusSettings {
    /// What the provider takes; `None` without a URL.
    ///
    /// # Errors
    /// A value that cannot be used, with what would be right.
    pub fn options(&self) -> Result<Option<PrometheusOptions>, ConfigError> {
        let timeout = duration_between("prometheus.timeout", &self.timeout, ("1s", "5m"))?;
        if !(1..=64).contains(&self.max_concurrency) {
            let message = format!("must be from 1 to 64, got {}", self.max_concurrency);
            return Err(ConfigError::Value { key: "prometheus.maxConcurrency", message });
        }
        let matchers = self.matchers.iter().map(|text| text.parse::<Matcher>()).collect::<Result<_, _>>();
        let matchers =
            matchers.map_err(|error| ConfigError::Value { key: "prometheus.matchers", message: error.to_string() })?;
        let Some(url) = self.url.clone().filter(|url| !url.is_empty()) else { return Ok(None) };
        Ok(Some(PrometheusOptions {
            bearer_token_file: self.bearer_token_file.clone(),
            basic_auth_user: self.basic_auth_user.clone(),
            basic_auth_password_file: self.basic_auth_password_file.clone(),
            ca_file: self.ca_file.clone(),
            cert_file: self.cert_file.clone(),
            key_file: self.key_file.clone(),
            headers: self.headers.clone(),
            matchers,
            timeout,
            max_concurrency: self.max_concurrency,
            ..PrometheusOptions::new(url)
        }))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)] // a test that panics has failed
mod tests {
    use crate::config::{Flags, Settings};
    use clap::{Args as _, FromArgMatches as _};
    use std::io::Write as _;
    use std::time::Duration;

    fn load(text: &str, flags: &[&str]) -> Result<Settings, String> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let command = Flags::augment_args(clap::Command::new("optipod"));
        let matches = command.try_get_matches_from(["optipod"].iter().chain(flags)).map_err(|e| e.to_string())?;
        let flags = Flags { config: Some(file.path().into()), ..Flags::from_arg_matches(&matches).unwrap() };
        Settings::load(&Settings::default(), &flags).map_err(|e| e.to_string())
    }

    #[test]
    fn there_is_no_prometheus_without_a_url() {
        let settings = load("prometheus: {timeout: 10s}", &[]).unwrap();
        assert!(settings.prometheus_options().unwrap().is_none());
        let error = load("metricsProvider: prometheus", &[]).unwrap_err();
        assert!(error.contains("prometheus.url"), "{error}");
    }

    #[test]
    fn file_and_flags_make_one_and_a_flag_wins() {
        let text = "prometheus:\n  url: http://a\n  timeout: 10s\n  headers: {X-Scope-OrgID: team}\n  caFile: /ca\n";
        let flags =
            ["--prometheus-url", "http://b", "--prometheus-matcher", "cluster=\"prod\"", "--prometheus-header=A=b=c"];
        let options = load(text, &flags).unwrap().prometheus_options().unwrap().unwrap();
        assert_eq!((options.url.as_str(), options.timeout), ("http://b", Duration::from_secs(10)));
        assert_eq!(options.matchers, ["cluster=\"prod\"".parse().unwrap()]);
        assert_eq!((options.headers["X-Scope-OrgID"].as_str(), options.headers["A"].as_str()), ("team", "b=c"));
        assert_eq!(options.ca_file, Some("/ca".into()));
        assert!(load("metricsProvider: prometheus", &["--prometheus-url=http://a"]).is_ok());
    }

    #[test]
    fn a_backfill_is_of_two_weeks_unless_said_otherwise_and_needs_a_server() {
        let window =
            |flags: &[&str]| load("prometheus: {url: 'http://a'}", flags).map(|s| s.backfill_window().unwrap());
        let days = |days: u64| Some(Duration::from_hours(24 * days));
        assert_eq!(window(&[]), Ok(None));
        assert_eq!(window(&["--backfill-from-prometheus"]), Ok(days(14)));
        assert_eq!(window(&["--backfill-from-prometheus=30d"]), Ok(days(30)));
        for (text, flag) in [("dryRun: true", "=7d"), ("prometheus: {url: 'http://a'}", "=soon")] {
            let error = load(text, &[&format!("--backfill-from-prometheus{flag}")]).unwrap_err();
            assert!(error.contains("backfillFromPrometheus"), "{error}");
        }
    }

    #[test]
    fn the_key_of_the_specification_is_a_url_too() {
        let url = |text| load(text, &[]).unwrap().prometheus_options().unwrap().unwrap().url;
        assert_eq!(url("prometheusURL: http://a"), "http://a");
        assert_eq!(url("prometheusURL: http://a\nprometheus: {url: 'http://b'}"), "http://b");
    }

    #[test]
    fn a_wrong_value_is_an_error_that_says_what_would_be_right() {
        for (text, part) in [
            ("prometheus: {timeout: 1h}", "from 1s to 5m"),
            ("prometheus: {maxConcurrency: 0}", "from 1 to 64"),
            ("prometheus: {matchers: ['cluster=prod']}", "label=\"value\""),
            ("prometheus: {token: x}", "token"),
        ] {
            let error = load(text, &[]).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
