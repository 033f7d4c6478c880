//! Settings that name something elsewhere: a namespace, a server.

use super::ConfigError;
use crate::policy::is_dns_label;
use crate::provider::Target;

/// A namespace's name.
pub(super) fn namespace(key: &'static str, text: &str) -> Result<(), ConfigError> {
    if is_dns_label(text) {
        return Ok(());
    }
    let message = format!(
        "\"{text}\" is no namespace's name; write 1 to 63 of a-z, 0-9 and hyphens, such as optipod-system (not \
         namespace/name)"
    );
    Err(ConfigError::Value { key, message })
}

/// The address of a gRPC server.
pub(super) fn server(key: &'static str, text: &str) -> Result<(), ConfigError> {
    Target::new(text).check().map_err(|error| ConfigError::Value { key, message: error.to_string() })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)] // a test that panics has failed
mod tests {
    use crate::config::{Flags, Settings};

    fn load(flags: &Flags) -> Result<Settings, String> {
        Settings::load(&Settings::default(), flags).map_err(|error| error.to_string())
    }

    #[test]
    fn an_address_of_the_recommender_that_is_none_is_told_at_the_start() {
        let load = |address: &str| load(&Flags { recommender_addr: Some(address.to_owned()), ..Flags::default() });
        for address in ["http://127.0.0.1:9090", "https://recommender.optipod-system.svc:9090", "https://[::1]:9090/"] {
            assert!(load(address).is_ok(), "{address}");
        }
        for address in ["", ":9090", "127.0.0.1:9090", "http://", "ftp://host", "http://host/path", "http://h:9090?a=b"]
        {
            let error = load(address).unwrap_err();
            assert!(error.contains("recommenderAddr") && error.contains("http://127.0.0.1:9090"), "{address}: {error}");
        }
    }

    #[test]
    fn a_namespace_that_can_be_none_is_told_at_the_start() {
        let load = |name: &str| load(&Flags { operator_namespace: Some(name.to_owned()), ..Flags::default() });
        assert!(load("optipod-system").is_ok());
        for name in ["", "Optipod", "ns/optipod", "a.b", &"x".repeat(64)] {
            let error = load(name).unwrap_err();
            assert!(error.contains("setting namespace") && error.contains("1 to 63"), "{name}: {error}");
        }
        let denied = Flags { deny_namespaces: Some(vec!["kube-system".into(), "no such".into()]), ..Flags::default() };
        assert!(self::load(&denied).unwrap_err().contains("denyNamespaces"));
    }
}
