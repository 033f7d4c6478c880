//! Settings of the running roles. A flag wins over an environment variable, that over the config file, that over the
//! default. An unknown key in the file is an error that names it.

mod custom;
mod names;
mod prometheus;
mod tls;

pub use custom::{CustomFlags, CustomSettings};
pub use prometheus::{PrometheusFlags, PrometheusSettings};
pub use tls::{ClientTls, ClientTlsFlags, ServerTls, ServerTlsFlags};

use crate::policy::duration;
use crate::provider::{self, PrometheusOptions};
use crate::telemetry::LogFormat;
use crate::web::{Listen, WebError};
use clap::Args;
use figment::Figment;
use figment::providers::{Format, Serialized, Yaml};
use optipod_storage::{SketchKind, StoreOptions};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Every setting, with the names of the config file (camelCase).
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Settings {
    /// Nothing is written but status and events.
    pub dry_run: bool,
    /// The provider of policies that name none.
    pub metrics_provider: String,
    /// Where Prometheus answers, in the words of older files; `prometheus.url` wins over it.
    #[serde(rename = "prometheusURL")]
    pub prometheus_url: Option<String>,
    /// The usage provider `prometheus`.
    pub prometheus: PrometheusSettings,
    /// The usage provider `custom`.
    pub custom: CustomSettings,
    /// How long an answer of a provider is kept.
    pub usage_cache_ttl: String,
    /// How far back an empty store is filled from Prometheus; nothing is without it.
    pub backfill_from_prometheus: Option<String>,
    /// Only the holder of the Lease acts.
    pub leader_election: bool,
    /// Where `/metrics` listens; empty or `0` for nowhere.
    pub metrics_addr: String,
    /// Where `/healthz` and `/readyz` listen; empty or `0` for nowhere.
    pub health_probe_bind_address: String,
    /// How often policies are evaluated that do not say so themselves.
    pub reconciliation_interval: String,
    /// The operator's own namespace.
    pub namespace: String,
    /// `own`: a policy outside the operator's namespace acts on its own namespace only. `any`: on all that it selects.
    pub policy_scope: PolicyScope,
    /// No policy acts on these namespaces.
    pub deny_namespaces: BTreeSet<String>,
    /// Policies with `updateRequestsOnly: false` may change limits.
    pub allow_limit_changes: bool,
    /// At most this many workloads are changed a minute, over all policies.
    pub max_updates_per_minute: u32,
    /// Where the recommender answers gRPC, as the controller and the commands call it.
    pub recommender_addr: String,
    /// Where the recommender listens for gRPC; outside loopback only with TLS.
    pub grpc_addr: String,
    /// TLS and callers of the recommender's gRPC.
    pub grpc_tls: ServerTls,
    /// How a recommender at an https:// address is called.
    pub recommender_tls: ClientTls,
    /// The store's folder.
    pub data_dir: PathBuf,
    /// How often metrics-server is read.
    pub scrape_interval: String,
    /// How long usage is kept.
    pub retention: String,
    /// How usage is summarised: `t-digest` or `log-linear`; what is stored already stays readable.
    pub sketch: Sketch,
    /// `text` or `json`.
    pub log_format: String,
    /// Which log lines: error, warn, info, debug, trace, or target=level pairs.
    pub log_level: String,
}

/// How far policies outside the operator's namespace reach.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum PolicyScope {
    /// Their own namespace.
    Own,
    /// Every namespace that they select.
    Any,
}

/// How usage is summarised.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Sketch {
    /// The smaller on disk, exact where few values are.
    TDigest,
    /// Never more than 0.8 % off, faster, and larger on disk.
    LogLinear,
}

impl From<Sketch> for SketchKind {
    fn from(sketch: Sketch) -> Self {
        match sketch {
            Sketch::TDigest => Self::TDigest,
            Sketch::LogLinear => Self::LogLinear,
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            dry_run: false,
            metrics_provider: "metrics-server".to_owned(),
            prometheus_url: None,
            prometheus: PrometheusSettings::default(),
            custom: CustomSettings::default(),
            usage_cache_ttl: "1m".to_owned(),
            backfill_from_prometheus: None,
            leader_election: false,
            metrics_addr: ":8080".to_owned(),
            health_probe_bind_address: ":8081".to_owned(),
            reconciliation_interval: "5m".to_owned(),
            namespace: "optipod-system".to_owned(),
            policy_scope: PolicyScope::Own,
            deny_namespaces: BTreeSet::new(),
            allow_limit_changes: true,
            max_updates_per_minute: 20,
            recommender_addr: "http://127.0.0.1:9090".to_owned(),
            grpc_addr: "127.0.0.1:9090".to_owned(),
            grpc_tls: ServerTls::default(),
            recommender_tls: ClientTls::default(),
            data_dir: PathBuf::from("/var/lib/optipod"),
            scrape_interval: "15s".to_owned(),
            retention: "30d".to_owned(),
            sketch: Sketch::TDigest,
            log_format: "text".to_owned(),
            log_level: "info".to_owned(),
        }
    }
}

/// The same settings as flags and environment variables, each optional.
#[derive(Args, Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Flags {
    /// YAML file with settings
    #[arg(long, env = "OPTIPOD_CONFIG", value_name = "FILE", global = true)]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Change nothing: publish recommendations in status only
    #[arg(long, env = "OPTIPOD_DRY_RUN", num_args = 0..=1, require_equals = true, default_missing_value = "true", global = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    /// Provider of policies that name none
    #[arg(long, env = "OPTIPOD_METRICS_PROVIDER", value_name = "NAME", global = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics_provider: Option<String>,
    /// Act only while holding the Lease
    #[arg(long = "enable-leader-election", env = "OPTIPOD_LEADER_ELECTION", num_args = 0..=1, require_equals = true, default_missing_value = "true", global = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leader_election: Option<bool>,
    /// Where /metrics listens, such as :8080; 0 for nowhere
    #[arg(long, env = "OPTIPOD_METRICS_ADDR", value_name = "ADDR", global = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics_addr: Option<String>,
    /// Where /healthz and /readyz listen, such as :8081; 0 for nowhere
    #[arg(long, env = "OPTIPOD_HEALTH_PROBE_BIND_ADDRESS", value_name = "ADDR", global = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_probe_bind_address: Option<String>,
    /// How often policies are evaluated that do not say so themselves
    #[arg(long, env = "OPTIPOD_RECONCILIATION_INTERVAL", value_name = "DURATION", global = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reconciliation_interval: Option<String>,
    /// The operator's own namespace
    #[arg(long = "operator-namespace", env = "OPTIPOD_NAMESPACE", value_name = "NAMESPACE", global = true)]
    #[serde(rename = "namespace", skip_serializing_if = "Option::is_none")]
    pub operator_namespace: Option<String>,
    /// Whether policies outside the operator's namespace reach beyond their own
    #[arg(long, env = "OPTIPOD_POLICY_SCOPE", value_enum, global = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy_scope: Option<PolicyScope>,
    /// Namespaces that no policy acts on
    #[arg(long, env = "OPTIPOD_DENY_NAMESPACES", value_name = "NAMES", value_delimiter = ',', global = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deny_namespaces: Option<Vec<String>>,
    /// Whether policies with updateRequestsOnly: false may change limits
    #[arg(long, env = "OPTIPOD_ALLOW_LIMIT_CHANGES", num_args = 0..=1, require_equals = true, default_missing_value = "true", global = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_limit_changes: Option<bool>,
    /// At most this many workloads are changed a minute
    #[arg(long, env = "OPTIPOD_MAX_UPDATES_PER_MINUTE", value_name = "N", global = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_updates_per_minute: Option<u32>,
    /// Where the recommender answers gRPC
    #[arg(long, env = "OPTIPOD_RECOMMENDER_ADDR", value_name = "URL", global = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recommender_addr: Option<String>,
    /// Where the recommender listens for gRPC
    #[arg(long, env = "OPTIPOD_GRPC_ADDR", value_name = "ADDR", global = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc_addr: Option<String>,
    /// TLS and callers of the recommender's gRPC
    #[command(flatten)]
    pub grpc_tls: ServerTlsFlags,
    /// How a recommender at an https:// address is called
    #[command(flatten)]
    pub recommender_tls: ClientTlsFlags,
    /// The store's folder
    #[arg(long, env = "OPTIPOD_DATA_DIR", value_name = "DIR", global = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<PathBuf>,
    /// How often metrics-server is read
    #[arg(long, env = "OPTIPOD_SCRAPE_INTERVAL", value_name = "DURATION", global = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scrape_interval: Option<String>,
    /// How long usage is kept
    #[arg(long, env = "OPTIPOD_RETENTION", value_name = "DURATION", global = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention: Option<String>,
    /// How usage is summarised; what is stored already stays readable
    #[arg(long, env = "OPTIPOD_SKETCH", value_enum, global = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sketch: Option<Sketch>,
    /// How log lines look: text or json
    #[arg(long, env = "OPTIPOD_LOG_FORMAT", value_name = "FORMAT", global = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_format: Option<String>,
    /// Which log lines: error, warn, info, debug, trace, or target=level pairs
    #[arg(long, env = "OPTIPOD_LOG_LEVEL", value_name = "LEVEL", global = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_level: Option<String>,
    /// The usage provider `prometheus`
    #[command(flatten)]
    pub prometheus: PrometheusFlags,
    /// The usage provider `custom`
    #[command(flatten)]
    pub custom: CustomFlags,
    /// How long an answer of a usage provider is kept, 1s to 5m
    #[arg(long, env = "OPTIPOD_USAGE_CACHE_TTL", value_name = "DURATION", global = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage_cache_ttl: Option<String>,
    /// Fill an empty store with what Prometheus knows of the past
    #[arg(
        long, env = "OPTIPOD_BACKFILL_FROM_PROMETHEUS", value_name = "WINDOW", num_args = 0..=1, require_equals = true,
        default_missing_value = "14d", global = true
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backfill_from_prometheus: Option<String>,
}

/// Settings that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is not there or cannot be read.
    #[error("config file {path} cannot be read: {cause}")]
    File {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        cause: std::io::Error,
    },
    /// The file has a key that there is not.
    #[error("config file {path} has an unknown key \"{key}\"; known keys: {known}")]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// The keys that there are.
        known: String,
    },
    /// A value has the wrong type, or the file is not YAML.
    #[error("settings{}: {cause}", path.as_ref().map(|p| format!(" (config file {})", p.display())).unwrap_or_default())]
    Content {
        /// The config file, if one was given.
        path: Option<PathBuf>,
        /// What is wrong, naming the key.
        cause: Box<figment::Error>,
    },
    /// A value is not usable.
    #[error("setting {key}: {message}")]
    Value {
        /// The key as in the config file.
        key: &'static str,
        /// What is wrong and what would be right.
        message: String,
    },
}

impl Settings {
    /// Merges defaults (with `base` in their place), the config file and the flags, and checks the result.
    pub fn load(base: &Self, flags: &Flags) -> Result<Self, ConfigError> {
        let mut figment = Figment::from(Serialized::defaults(base));
        if let Some(path) = &flags.config {
            let text =
                std::fs::read_to_string(path).map_err(|cause| ConfigError::File { path: path.clone(), cause })?;
            figment = figment.merge(Yaml::string(&text));
        }
        let merged = figment.merge(Serialized::defaults(flags)).extract::<Self>();
        let settings = merged.map_err(|cause| content_error(flags.config.as_deref(), cause))?;
        settings.check()?;
        Ok(settings)
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.scrape_interval()?;
        self.retention()?;
        self.reconciliation_interval()?;
        self.metrics_listen()?;
        self.health_listen()?;
        self.log_format()?;
        names::server("recommenderAddr", &self.recommender_addr)?;
        names::namespace("namespace", &self.namespace)?;
        self.deny_namespaces.iter().try_for_each(|name| names::namespace("denyNamespaces", name))?;
        self.grpc_tls.check()?;
        self.recommender_tls.check()?;
        if self.max_updates_per_minute == 0 {
            let message = "must be at least 1; to change nothing use dryRun: true".to_owned();
            return Err(ConfigError::Value { key: "maxUpdatesPerMinute", message });
        }
        let has_prometheus = self.prometheus_options()?.is_some();
        let has_custom = self.custom.options()?.is_some();
        self.usage_cache_ttl()?;
        self.backfill_window()?;
        let message = match self.metrics_provider.as_str() {
            "metrics-server" => return Ok(()),
            provider::prometheus::NAME if has_prometheus => return Ok(()),
            provider::prometheus::NAME => "the provider prometheus needs prometheus.url".to_owned(),
            provider::CUSTOM if has_custom => return Ok(()),
            provider::CUSTOM => "the provider custom needs custom.addr".to_owned(),
            other => format!("no provider \"{other}\" in this version; available: metrics-server, prometheus, custom"),
        };
        Err(ConfigError::Value { key: "metricsProvider", message })
    }

    /// How Prometheus is asked, where it is.
    pub fn prometheus_options(&self) -> Result<Option<PrometheusOptions>, ConfigError> {
        let url = self.prometheus.url.clone().or_else(|| self.prometheus_url.clone());
        PrometheusSettings { url, ..self.prometheus.clone() }.options()
    }

    /// How long an answer of a provider is kept, 1 s to 5 min: usage that decisions take is at most 10 min old.
    pub fn usage_cache_ttl(&self) -> Result<Duration, ConfigError> {
        duration_between("usageCacheTtl", &self.usage_cache_ttl, ("1s", "5m"))
    }

    /// How far back an empty store is filled from Prometheus, 1 h to 400 d, where it is.
    pub fn backfill_window(&self) -> Result<Option<Duration>, ConfigError> {
        let key = "backfillFromPrometheus";
        let Some(text) = &self.backfill_from_prometheus else { return Ok(None) };
        let window = duration_between(key, text, ("1h", "400d"))?;
        if self.prometheus_options()?.is_none() {
            return Err(ConfigError::Value { key, message: "needs prometheus.url (--prometheus-url)".to_owned() });
        }
        Ok(Some(window))
    }

    /// How often metrics-server is read, 1 s to 5 min.
    pub fn scrape_interval(&self) -> Result<Duration, ConfigError> {
        duration_between("scrapeInterval", &self.scrape_interval, ("1s", "5m"))
    }

    /// How long usage is kept, 1 h to 400 d.
    pub fn retention(&self) -> Result<Duration, ConfigError> {
        duration_between("retention", &self.retention, ("1h", "400d"))
    }

    /// How the store is kept.
    pub fn store_options(&self) -> Result<StoreOptions, ConfigError> {
        Ok(StoreOptions { retention: self.retention()?, sketch: self.sketch.into(), ..StoreOptions::default() })
    }

    /// How often policies are evaluated that do not say so themselves, 10 s to 24 h.
    pub fn reconciliation_interval(&self) -> Result<Duration, ConfigError> {
        duration_between("reconciliationInterval", &self.reconciliation_interval, ("10s", "24h"))
    }

    /// How log lines look.
    pub fn log_format(&self) -> Result<LogFormat, ConfigError> {
        self.log_format.parse().map_err(|message| ConfigError::Value { key: "logFormat", message })
    }

    /// Where `/metrics` listens, if anywhere.
    pub fn metrics_listen(&self) -> Result<Listen, ConfigError> {
        listen("metricsAddr", &self.metrics_addr)
    }

    /// Where the probes listen, if anywhere.
    pub fn health_listen(&self) -> Result<Listen, ConfigError> {
        listen("healthProbeBindAddress", &self.health_probe_bind_address)
    }

    /// Where gRPC listens.
    pub fn grpc_listen(&self) -> Result<SocketAddr, ConfigError> {
        match listen("grpcAddr", &self.grpc_addr)? {
            Listen::On(address) => Ok(address),
            Listen::Off => {
                let message = "the recommender must listen somewhere, such as 127.0.0.1:9090".to_owned();
                Err(ConfigError::Value { key: "grpcAddr", message })
            }
        }
    }
}

fn content_error(path: Option<&Path>, cause: figment::Error) -> ConfigError {
    match (path, &cause.kind) {
        (Some(path), figment::error::Kind::UnknownField(key, known)) => {
            ConfigError::UnknownKey { path: path.to_owned(), key: key.clone(), known: known.join(", ") }
        }
        _ => ConfigError::Content { path: path.map(Path::to_owned), cause: Box::new(cause) },
    }
}

fn duration_between(key: &'static str, text: &str, (least, most): (&str, &str)) -> Result<Duration, ConfigError> {
    let value = duration::parse(text)
        .map_err(|error| ConfigError::Value { key, message: format!("must be from {least} to {most}: {error}") })?;
    let range = duration::parse(least).unwrap_or_default()..=duration::parse(most).unwrap_or(Duration::MAX);
    if range.contains(&value) {
        return Ok(value);
    }
    Err(ConfigError::Value { key, message: format!("must be from {least} to {most}, got \"{text}\"") })
}

fn listen(key: &'static str, text: &str) -> Result<Listen, ConfigError> {
    text.parse().map_err(|error: WebError| ConfigError::Value { key, message: error.to_string() })
}

/// The folder of `optipod run`'s store: the user's state directory.
pub fn user_state_dir() -> PathBuf {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = variable("XDG_STATE_HOME")
        .or_else(|| variable("HOME").map(|home| home.join(".local/state")))
        .unwrap_or_else(|| Path::new(".").to_path_buf());
    base.join("optipod")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    fn load(text: &str, flags: Flags) -> Result<Settings, ConfigError> {
        let file = file(text);
        Settings::load(&Settings::default(), &Flags { config: Some(file.path().into()), ..flags })
    }

    #[test]
    fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
        let text = "dryRun: true\nmetricsAddr: 127.0.0.1:1\nreconciliationInterval: 1m\n";
        let flags = Flags { metrics_addr: Some("127.0.0.1:2".into()), ..Flags::default() };
        let settings = load(text, flags).unwrap();
        assert!(settings.dry_run);
        assert_eq!(settings.metrics_addr, "127.0.0.1:2");
        assert_eq!(settings.reconciliation_interval().unwrap(), Duration::from_mins(1));
        assert_eq!(settings.max_updates_per_minute, 20);
    }

    #[test]
    fn the_sketch_is_a_t_digest_unless_the_file_or_a_flag_says_otherwise() {
        let sketch =
            |text, flag| SketchKind::from(load(text, Flags { sketch: flag, ..Flags::default() }).unwrap().sketch);
        assert_eq!(sketch("dryRun: true", None), SketchKind::TDigest);
        assert_eq!(sketch("sketch: log-linear", None), SketchKind::LogLinear);
        assert_eq!(sketch("sketch: log-linear", Some(Sketch::TDigest)), SketchKind::TDigest);
        assert_eq!(sketch("sketch: t-digest", Some(Sketch::LogLinear)), SketchKind::LogLinear);
    }

    #[test]
    fn the_config_map_of_the_specification_is_read() {
        let text = "dryRun: false\nmetricsProvider: metrics-server\nprometheusURL: http://prometheus:9090\nleaderElection: true\nreconciliationInterval: 5m\n";
        let settings = load(text, Flags::default()).unwrap();
        assert!(settings.leader_election);
        assert_eq!(settings.prometheus_url.as_deref(), Some("http://prometheus:9090"));
    }

    #[test]
    fn an_unknown_key_is_an_error_that_names_it() {
        let error = load("dryrun: true\n", Flags::default()).unwrap_err().to_string();
        assert!(error.contains("unknown key \"dryrun\"; known keys: dryRun, metricsProvider"), "{error}");
    }

    #[test]
    fn a_wrong_value_is_an_error_that_says_what_would_be_right() {
        for (text, part) in [
            ("scrapeInterval: 10m", "from 1s to 5m"),
            ("retention: soon", "from 1h to 400d: \"soon\" is not a duration"),
            ("reconciliationInterval: 0s", "from 10s to 24h: \"0s\""),
            ("metricsAddr: here", "not an address"),
            ("logFormat: xml", "text or json"),
            ("maxUpdatesPerMinute: 0", "at least 1"),
            ("metricsProvider: graphite", "available: metrics-server"),
            ("dryRun: maybe", "dryRun"),
            ("sketch: kll", "`t-digest` or `log-linear`"),
        ] {
            let error = load(text, Flags::default()).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
        let missing = Flags { config: Some("/nowhere/config.yaml".into()), ..Flags::default() };
        assert!(
            Settings::load(&Settings::default(), &missing).unwrap_err().to_string().contains("/nowhere/config.yaml")
        );
    }
}
