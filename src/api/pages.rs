//! Page tokens: where a list goes on, bound to the filter it was begun with.
//!
//! A token is the last key of a page and a checksum over it and the filter, in hexadecimal. Callers must not read it;
//! one that was made up, cut short or taken from another list is refused.

use crate::hash::fnv_1a;
use optipod_storage::SeriesKey;
use std::fmt::Write as _;

/// Changes when the meaning of tokens changes.
const VERSION: &str = "1";

/// Which series a list is about; empty parts mean any.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Filter {
    pub(super) namespace: String,
    pub(super) kind: String,
    pub(super) workload: String,
}

impl Filter {
    pub(super) fn matches(&self, key: &SeriesKey) -> bool {
        let is = |wanted: &str, have: &str| wanted.is_empty() || wanted == have;
        is(&self.namespace, &key.namespace) && is(&self.kind, &key.kind) && is(&self.workload, &key.workload)
    }

    /// A key before every one that can match: a series has no empty parts.
    pub(super) fn start(&self) -> Option<SeriesKey> {
        let namespace = self.namespace.clone();
        let rest = || String::new();
        (!namespace.is_empty()).then(|| SeriesKey { namespace, kind: rest(), workload: rest(), container: rest() })
    }

    /// Keys at and after this one cannot match.
    pub(super) fn is_past(&self, key: &SeriesKey) -> bool {
        !self.namespace.is_empty() && key.namespace > self.namespace
    }

    /// The token for the page after `last`.
    pub(super) fn token(&self, last: &SeriesKey) -> String {
        let key = format!("{}/{}/{}/{}", last.namespace, last.kind, last.workload, last.container);
        let mut token = format!("{:016x}", self.checksum(&key));
        for byte in key.bytes() {
            let _ = write!(token, "{byte:02x}"); // writing to a String cannot fail
        }
        token
    }

    /// The key that a token names; `None` when the token is not one of this list's.
    pub(super) fn after(&self, token: &str) -> Option<SeriesKey> {
        let (checksum, hex) = token.split_at_checked(16)?;
        let key = unhex(hex)?;
        if u64::from_str_radix(checksum, 16).ok()? != self.checksum(&key) {
            return None;
        }
        let mut parts = key.split('/').map(str::to_owned);
        let key = SeriesKey {
            namespace: parts.next()?,
            kind: parts.next()?,
            workload: parts.next()?,
            container: parts.next()?,
        };
        parts.next().is_none().then_some(key)
    }

    /// Over everything that the token stands for.
    fn checksum(&self, key: &str) -> u64 {
        let parts = [VERSION, &self.namespace, &self.kind, &self.workload, key];
        fnv_1a(parts.iter().flat_map(|part| part.bytes().chain([0])))
    }
}

fn unhex(hex: &str) -> Option<String> {
    let digits: Vec<u32> = hex.chars().map(|c| c.to_digit(16)).collect::<Option<_>>()?;
    let pairs = digits.chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return None;
    }
    let bytes = pairs.map(|pair| u8::try_from(pair.iter().fold(0, |byte, digit| byte * 16 + digit)));
    String::from_utf8(bytes.collect::<Result<_, _>>().ok()?).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)] // a test that panics has failed
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(namespace: &str) -> SeriesKey {
        SeriesKey {
            namespace: namespace.into(),
            kind: "Deployment".into(),
            workload: "web".into(),
            container: "app".into(),
        }
    }

    #[test]
    fn a_token_leads_back_to_its_key_and_only_under_its_own_filter() {
        let filter = Filter { namespace: "shop".into(), ..Filter::default() };
        let token = filter.token(&key("shop"));
        assert_eq!(filter.after(&token), Some(key("shop")));
        assert_eq!(Filter::default().after(&token), None, "another list's token");
        assert_eq!(filter.after(&token[..token.len() - 2]), None, "cut short");
        assert_eq!(filter.after(&token.replace('6', "7")), None, "changed");
    }

    proptest! {
        #[test]
        fn no_made_up_token_is_taken(token in "[0-9a-zA-Zé/]{0,60}") {
            prop_assert_eq!(Filter::default().after(&token), None);
        }
    }
}
