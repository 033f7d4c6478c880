//! The syntax of Kubernetes' names and labels.
//!
//! <https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#syntax-and-character-set>

use super::super::limits::{DNS_LABEL_LENGTH, LABEL_VALUE_LENGTH};

/// The longest prefix of a label key, a DNS subdomain.
const SUBDOMAIN_LENGTH: usize = 253;

/// 1 to 63 of a-z, 0-9 and hyphens, beginning and ending with a letter or digit.
pub(crate) fn is_dns_label(text: &str) -> bool {
    text.len() <= DNS_LABEL_LENGTH && is_dns_word(text)
}

/// `name` or `example.com/name`.
pub(super) fn is_label_key(text: &str) -> bool {
    match text.split_once('/') {
        Some((prefix, name)) => is_dns_subdomain(prefix) && is_label_name(name),
        None => is_label_name(text),
    }
}

/// Nothing, or what a label's name may be.
pub(super) fn is_label_value(text: &str) -> bool {
    text.is_empty() || is_label_name(text)
}

fn is_label_name(text: &str) -> bool {
    text.len() <= LABEL_VALUE_LENGTH
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.ends_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

fn is_dns_subdomain(text: &str) -> bool {
    text.len() <= SUBDOMAIN_LENGTH && text.split('.').all(is_dns_word)
}

fn is_dns_word(text: &str) -> bool {
    let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.starts_with(letter) && text.ends_with(letter) && text.chars().all(|c| letter(c) || c == '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_namespaces_and_containers_are_dns_labels() {
        let long = "a".repeat(63);
        for text in ["a", "0", "kube-system", "a--b", &long] {
            assert!(is_dns_label(text), "{text}");
        }
        let longer = "a".repeat(64);
        for text in ["", "-a", "a-", "A", "a.b", "a_b", "a b", "ä", &longer] {
            assert!(!is_dns_label(text), "{text}");
        }
    }

    #[test]
    fn label_keys_have_an_optional_prefix() {
        let long = format!("{}/{}", "a".repeat(253), "b".repeat(63));
        for text in ["app", "App.Kubernetes_io-x", "app.kubernetes.io/name", "a/B", "1", &long] {
            assert!(is_label_key(text), "{text}");
        }
        let (prefix, name) = (format!("{}/b", "a".repeat(254)), "b".repeat(64));
        for text in ["", "/a", "a/", "a/b/c", "-a", "a.", "Ex_ample/a", "a..b/c", "a b", "ä", &prefix, &name] {
            assert!(!is_label_key(text), "{text}");
        }
    }

    #[test]
    fn label_values_may_be_empty() {
        let (long, longer) = ("v".repeat(63), "v".repeat(64));
        for text in ["", "a", "v1.2_3-x", &long] {
            assert!(is_label_value(text), "{text}");
        }
        for text in ["x y", "_a", "a-", "a/b", "é", &longer] {
            assert!(!is_label_value(text), "{text}");
        }
    }
}
