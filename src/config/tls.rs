//! Settings of TLS and of who may call, on both sides of gRPC.

use super::ConfigError;
use clap::Args;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// The server's side: `grpcTls` in the config file.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServerTls {
    /// The server's certificate and those between it and its authority, PEM; with it there is TLS.
    pub cert_file: Option<PathBuf>,
    /// The certificate's key, PEM.
    pub key_file: Option<PathBuf>,
    /// The authorities of client certificates, PEM.
    pub client_ca_file: Option<PathBuf>,
    /// Callers with a certificate of one of these names (common name or subjectAltName) need no token.
    pub client_names: BTreeSet<String>,
    /// Bearer tokens are checked by TokenReview and SubjectAccessReview; `false` lets only certificates in.
    pub token_review: bool,
    /// The audience that a token must have been issued for.
    pub token_audience: String,
    /// Requests a second of one client; four times as many at once after a quiet time.
    pub max_requests_per_second: u32,
}

impl Default for ServerTls {
    fn default() -> Self {
        Self {
            cert_file: None,
            key_file: None,
            client_ca_file: None,
            client_names: BTreeSet::new(),
            token_review: true,
            token_audience: "optipod".to_owned(),
            max_requests_per_second: 50,
        }
    }
}

/// The client's side: `recommenderTls` in the config file. It counts where the address begins with `https://`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClientTls {
    /// The authorities of the recommender's certificate, PEM; else `/var/run/secrets/optipod/ca.crt`.
    pub ca_file: Option<PathBuf>,
    /// A bearer token; else `/var/run/secrets/optipod/token` where there is one.
    pub token_file: Option<PathBuf>,
    /// A client certificate, PEM.
    pub cert_file: Option<PathBuf>,
    /// The client certificate's key, PEM.
    pub key_file: Option<PathBuf>,
    /// The name that the recommender's certificate must have, where that is not the address's.
    pub server_name: Option<String>,
}

/// The server's side as flags and environment variables.
#[derive(Args, Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerTlsFlags {
    /// The gRPC server's certificate (PEM), read again when it changes; with it there is TLS
    #[arg(long = "tls-cert-file", env = "OPTIPOD_TLS_CERT_FILE", value_name = "FILE", global = true)]
    #[serde(rename = "certFile", skip_serializing_if = "Option::is_none")]
    pub tls_cert_file: Option<PathBuf>,
    /// The key of the gRPC server's certificate (PEM)
    #[arg(long = "tls-key-file", env = "OPTIPOD_TLS_KEY_FILE", value_name = "FILE", global = true)]
    #[serde(rename = "keyFile", skip_serializing_if = "Option::is_none")]
    pub tls_key_file: Option<PathBuf>,
    /// Authorities of client certificates (PEM); callers with a listed name then need no token
    #[arg(long, env = "OPTIPOD_CLIENT_CA_FILE", value_name = "FILE", global = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_ca_file: Option<PathBuf>,
    /// Names (common name or subjectAltName) of client certificates that may call
    #[arg(long, env = "OPTIPOD_CLIENT_NAMES", value_name = "NAMES", value_delimiter = ',', global = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_names: Option<Vec<String>>,
    /// Whether callers of gRPC with TLS may show a bearer token, which the API server checks
    #[arg(long, env = "OPTIPOD_TOKEN_REVIEW", num_args = 0..=1, require_equals = true, default_missing_value = "true", global = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_review: Option<bool>,
    /// The audience that bearer tokens must have been issued for
    #[arg(long, env = "OPTIPOD_TOKEN_AUDIENCE", value_name = "AUDIENCE", global = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_audience: Option<String>,
    /// Requests a second of one caller of gRPC with TLS
    #[arg(long, env = "OPTIPOD_MAX_REQUESTS_PER_SECOND", value_name = "N", global = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_requests_per_second: Option<u32>,
}

/// The client's side as flags and environment variables.
#[derive(Args, Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClientTlsFlags {
    /// Authorities of the recommender's certificate (PEM), for https:// addresses
    #[arg(long, env = "OPTIPOD_RECOMMENDER_CA_FILE", value_name = "FILE", global = true)]
    #[serde(rename = "caFile", skip_serializing_if = "Option::is_none")]
    pub recommender_ca_file: Option<PathBuf>,
    /// A bearer token for the recommender, read for each call, for https:// addresses
    #[arg(long, env = "OPTIPOD_RECOMMENDER_TOKEN_FILE", value_name = "FILE", global = true)]
    #[serde(rename = "tokenFile", skip_serializing_if = "Option::is_none")]
    pub recommender_token_file: Option<PathBuf>,
    /// A client certificate (PEM) for the recommender, instead of a token
    #[arg(long, env = "OPTIPOD_RECOMMENDER_CERT_FILE", value_name = "FILE", global = true)]
    #[serde(rename = "certFile", skip_serializing_if = "Option::is_none")]
    pub recommender_cert_file: Option<PathBuf>,
    /// The key of that client certificate (PEM)
    #[arg(long, env = "OPTIPOD_RECOMMENDER_KEY_FILE", value_name = "FILE", global = true)]
    #[serde(rename = "keyFile", skip_serializing_if = "Option::is_none")]
    pub recommender_key_file: Option<PathBuf>,
    /// The name that the recommender's certificate must have, where that is not the address's
    #[arg(long, env = "OPTIPOD_RECOMMENDER_SERVER_NAME", value_name = "NAME", global = true)]
    #[serde(rename = "serverName", skip_serializing_if = "Option::is_none")]
    pub recommender_server_name: Option<String>,
}

impl ServerTls {
    /// The certificate and its key, where there is TLS.
    pub fn pair(&self) -> Option<(&PathBuf, &PathBuf)> {
        self.cert_file.as_ref().zip(self.key_file.as_ref())
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let wrong = |message: &str| Err(ConfigError::Value { key: "grpcTls", message: message.to_owned() });
        if self.cert_file.is_some() != self.key_file.is_some() {
            return wrong("certFile and keyFile go together (--tls-cert-file, --tls-key-file); set both or none");
        }
        if self.client_ca_file.is_some() && self.cert_file.is_none() {
            return wrong("clientCaFile is for TLS; set certFile and keyFile too");
        }
        if self.client_ca_file.is_some() == self.client_names.is_empty() {
            return wrong(
                "clientCaFile and clientNames go together (--client-ca-file, --client-names): which authority, and whom \
                 of those it signed for",
            );
        }
        if self.client_names.iter().any(|name| name.trim().is_empty()) {
            return wrong("clientNames has an empty name, which would be anybody's");
        }
        if self.token_audience.is_empty() {
            return wrong("tokenAudience must not be empty: any token of the cluster would do");
        }
        if !(1..=10_000).contains(&self.max_requests_per_second) {
            return wrong("maxRequestsPerSecond must be from 1 to 10000");
        }
        Ok(())
    }
}

impl ClientTls {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.cert_file.is_some() == self.key_file.is_some() {
            return Ok(());
        }
        let message = "certFile and keyFile go together (--recommender-cert-file, --recommender-key-file)".to_owned();
        Err(ConfigError::Value { key: "recommenderTls", message })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)] // a test that panics has failed
mod tests {
    use super::super::{Flags, Settings};
    use super::*;

    fn load(text: &str, flags: Flags) -> Result<Settings, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.yaml");
        std::fs::write(&path, text).unwrap();
        Settings::load(&Settings::default(), &Flags { config: Some(path), ..flags })
    }

    #[test]
    fn without_settings_there_is_no_tls_and_tokens_would_be_asked_for() {
        let settings = load("dryRun: true", Flags::default()).unwrap();
        assert_eq!(settings.grpc_tls.pair(), None);
        assert!(settings.grpc_tls.token_review);
        assert_eq!(settings.grpc_tls.token_audience, "optipod");
        assert_eq!(settings.recommender_tls, ClientTls::default());
    }

    #[test]
    fn a_flag_wins_over_the_file_key_by_key() {
        let text =
            "grpcTls: {certFile: a.crt, keyFile: a.key, tokenAudience: file}\nrecommenderTls: {caFile: ca.crt}\n";
        let grpc_tls = ServerTlsFlags { token_audience: Some("flag".into()), ..ServerTlsFlags::default() };
        let recommender_tls =
            ClientTlsFlags { recommender_token_file: Some("token".into()), ..ClientTlsFlags::default() };
        let settings = load(text, Flags { grpc_tls, recommender_tls, ..Flags::default() }).unwrap();
        let pair = settings.grpc_tls.pair().unwrap();
        assert_eq!((pair.0.to_str(), pair.1.to_str()), (Some("a.crt"), Some("a.key")));
        assert_eq!(settings.grpc_tls.token_audience, "flag");
        let client = settings.recommender_tls;
        assert_eq!((client.ca_file, client.token_file), (Some("ca.crt".into()), Some("token".into())));
    }

    #[test]
    fn what_does_not_go_together_is_an_error_that_names_the_flags() {
        for (text, part) in [
            ("grpcTls: {certFile: a.crt}", "--tls-key-file"),
            ("grpcTls: {keyFile: a.key}", "--tls-cert-file"),
            ("grpcTls: {clientCaFile: ca.crt, clientNames: [controller]}", "set certFile and keyFile too"),
            ("grpcTls: {certFile: a, keyFile: b, clientCaFile: ca.crt}", "--client-names"),
            ("grpcTls: {certFile: a, keyFile: b, clientNames: [controller]}", "--client-ca-file"),
            ("grpcTls: {certFile: a, keyFile: b, clientCaFile: c, clientNames: ['']}", "empty name"),
            ("grpcTls: {tokenAudience: ''}", "tokenAudience must not be empty"),
            ("grpcTls: {maxRequestsPerSecond: 0}", "from 1 to 10000"),
            ("grpcTls: {certfile: a}", "certfile"),
            ("recommenderTls: {certFile: a}", "--recommender-key-file"),
        ] {
            let error = load(text, Flags::default()).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
