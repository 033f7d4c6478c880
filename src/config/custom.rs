//! Settings of the usage provider `custom`.

use super::{ConfigError, duration_between};
use crate::provider::CustomOptions;
use clap::Args;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Which server of `optipod.v1alpha1.UsageService` is asked, and how. Without an address there is no such provider.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct CustomSettings {
    /// Where it answers, such as `http://usage.monitoring:9090`, or `https://…` for TLS.
    pub addr: Option<String>,
    /// File with the certificates of the authorities to trust, in place of the system's.
    pub ca_file: Option<PathBuf>,
    /// File with the client's certificate chain.
    pub cert_file: Option<PathBuf>,
    /// File with the client's private key.
    pub key_file: Option<PathBuf>,
    /// The deadline of one question of up to 500 series.
    pub timeout: String,
}

impl Default for CustomSettings {
    fn default() -> Self {
        Self { addr: None, ca_file: None, cert_file: None, key_file: None, timeout: "30s".to_owned() }
    }
}

/// The same as flags and environment variables, each optional.
#[derive(Args, Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CustomFlags {
    /// Where a server of UsageService answers, for policies with provider: custom
    #[arg(long = "custom-provider-addr", env = "OPTIPOD_CUSTOM_PROVIDER_ADDR", value_name = "URL", global = true)]
    #[serde(rename = "addr", skip_serializing_if = "Option::is_none")]
    pub custom_provider_addr: Option<String>,
    /// File with the authorities to trust for it, in place of the system's
    #[arg(
        long = "custom-provider-ca-file",
        env = "OPTIPOD_CUSTOM_PROVIDER_CA_FILE",
        value_name = "FILE",
        global = true
    )]
    #[serde(rename = "caFile", skip_serializing_if = "Option::is_none")]
    pub custom_provider_ca_file: Option<PathBuf>,
}

impl CustomSettings {
    /// What the provider takes; `None` without an address.
    ///
    /// # Errors
    /// A value that cannot be used, with what would be right.
    pub fn options(&self) -> Result<Option<CustomOptions>, ConfigError> {
        let timeout = duration_between("custom.timeout", &self.timeout, ("1s", "5m"))?;
        let value = |key, message: &str| ConfigError::Value { key, message: message.to_owned() };
        let identity = match (&self.cert_file, &self.key_file) {
            (Some(cert), Some(key)) => Some((cert.clone(), key.clone())),
            (None, None) => None,
            _ => return Err(value("custom.certFile", "set both certFile and keyFile, or neither")),
        };
        let Some(addr) = self.addr.clone().filter(|addr| !addr.is_empty()) else { return Ok(None) };
        if !addr.starts_with("https://") && (self.ca_file.is_some() || identity.is_some()) {
            return Err(value("custom.addr", "must begin with https:// where caFile or certFile is set"));
        }
        Ok(Some(CustomOptions { addr, ca_file: self.ca_file.clone(), identity, timeout }))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)] // a test that panics has failed
mod tests {
    use crate::config::{CustomFlags, Flags, Settings};
    use std::io::Write as _;
    use std::time::Duration;

    fn load(text: &str, flags: Flags) -> Result<Settings, String> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let flags = Flags { config: Some(file.path().into()), ..flags };
        Settings::load(&Settings::default(), &flags).map_err(|error| error.to_string())
    }

    #[test]
    fn the_flag_wins_over_the_file_and_the_rest_of_the_file_stays() {
        let text = "metricsProvider: custom\ncustom: {addr: 'https://a:1', caFile: /ca, timeout: 5s}";
        let flags = CustomFlags { custom_provider_addr: Some("https://b:2".into()), ..CustomFlags::default() };
        let settings = load(text, Flags { custom: flags, ..Flags::default() }).unwrap();
        let options = settings.custom.options().unwrap().unwrap();
        assert_eq!((options.addr.as_str(), options.timeout), ("https://b:2", Duration::from_secs(5)));
        assert_eq!(options.ca_file, Some("/ca".into()));
    }

    #[test]
    fn what_cannot_work_is_an_error_that_says_what_would() {
        for (text, part) in [
            ("metricsProvider: custom", "custom.addr"),
            ("custom: {timeout: 1h}", "from 1s to 5m"),
            ("custom: {addr: 'http://a', caFile: /ca}", "https://"),
            ("custom: {addr: 'https://a', certFile: /cert}", "keyFile"),
            ("custom: {address: a}", "address"),
        ] {
            let error = load(text, Flags::default()).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
