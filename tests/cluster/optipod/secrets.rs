//! What a process may never log, not even where everything is logged.

use anyhow::{Context, ensure};

use super::process::Optipod;
use crate::harness::Result;

/// Neither the tokens in these texts nor the private key.
pub fn ensure_not_logged(role: &Optipod, with_tokens: &[&str], key: &str) -> Result {
    let log = role.log()?;
    ensure!(log.contains("TRACE"), "{} does not log everything", role.name());
    let mut secrets = vec![key.lines().nth(1).context("no key")?];
    for text in with_tokens {
        secrets.push(signature(text)?);
    }
    for secret in secrets {
        ensure!(secret.len() > 40, "{secret:?} is no secret");
        let found = log.lines().find(|line| line.contains(secret));
        ensure!(found.is_none(), "{} logs {secret}: {found:?}", role.name());
    }
    Ok(())
}

/// What nobody can guess of the token in a text.
fn signature(text: &str) -> Result<&str> {
    let is_base64 = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let token = text.split(|c| !is_base64(c) && c != '.').find(|word| word.starts_with("eyJ"));
    token.and_then(|token| token.split('.').nth(2)).context("no token")
}
