//! What goes wrong, and what it is called.

use super::super::harness::{Result, free_address};
use super::double::{Double, Reply, http, usual};
use super::{provider, query};
use optipod::clock::Clock;
use optipod::provider::{PrometheusOptions, PrometheusProvider, ProviderError, UsageProvider as _};
use std::io::Write as _;
use std::time::Duration;

const HOUR: Duration = Duration::from_hours(1);

/// The error of a server that answers everything like this, with some options changed.
async fn error_of(
    reply: impl Fn() -> Reply + Send + Sync + 'static,
    change: impl FnOnce(&mut PrometheusOptions),
) -> ProviderError {
    let server = Double::start(move |_| reply()).await;
    let mut options = PrometheusOptions::new(server.url());
    change(&mut options);
    provider(options).unwrap().usage(&[query("shop", "StatefulSet/db", "app", HOUR)]).await.unwrap_err()
}

fn variant(error: &ProviderError) -> &'static str {
    match error {
        ProviderError::Unavailable { .. } => "unavailable",
        ProviderError::Timeout { .. } => "timeout",
        ProviderError::Refused { .. } => "refused",
    }
}

pub async fn each_fault_is_the_right_error_and_says_what_to_do() -> Result {
    let said = r#"{"status":"error","errorType":"bad_data","error":"so says the server"}"#;
    for (status, body, expected, part) in [
        (400, said, "refused", "so says the server"),
        (401, "no token", "refused", "check the files with the credentials"),
        (403, "", "refused", "may not read metrics"),
        (404, "404 page not found", "refused", "check the path in prometheus.url"),
        (422, said, "refused", "so says the server"),
        (429, "slow down", "unavailable", "429: slow down"),
        (500, said, "unavailable", "so says the server"),
        (502, "<html>\n<h1>Bad Gateway</h1>", "unavailable", "502: <html> <h1>Bad Gateway</h1>"),
        (503, said, "unavailable", "so says the server"),
        (204, "", "refused", "answers 204"),
        (200, said, "refused", "so says the server"),
        (200, "<html>sign in</html>", "refused", "not what Prometheus answers"),
        (200, "", "refused", "not what Prometheus answers"),
        (200, r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"#, "refused", "EOF"),
        (
            200,
            r#"{"status":"success","data":{"resultType":"scalar","result":[1,"1"]}}"#,
            "refused",
            "not what Prometheus",
        ),
    ] {
        let error = error_of(move || Reply::Status(status, "X-Test: 1", body.to_owned()), |_| ()).await;
        assert_eq!(variant(&error), expected, "{status}: {error}");
        assert!(error.to_string().contains(part), "{status}: {error}");
    }
    Ok(())
}

pub async fn a_server_that_is_not_there_is_unavailable() -> Result {
    let options = PrometheusOptions::new(format!("http://{}", free_address()?));
    let error = provider(options)?.usage(&[query("shop", "Pod/bare", "app", HOUR)]).await.unwrap_err();
    assert!(variant(&error) == "unavailable" && error.to_string().contains("refused"), "{error}");
    Ok(())
}

pub async fn a_redirect_is_not_followed() -> Result {
    let other = Double::start(|asked| usual(asked, &[], "")).await;
    let location: &'static str = format!("Location: {}/api/v1/query?token=x", other.url()).leak();
    for status in [301, 302, 307, 308] {
        let error = error_of(move || Reply::Status(status, location, String::new()), |_| ()).await;
        assert_eq!(variant(&error), "refused", "{error}");
        assert!(error.to_string().contains(&other.url()) && !error.to_string().contains("token=x"), "{error}");
    }
    assert!(other.asked().is_empty(), "{:?}", other.asked());
    Ok(())
}

pub async fn a_slow_answer_ends_at_the_deadline() -> Result {
    let timeout = Duration::from_millis(200);
    let begun = http(200, "X-Test: 1", "{}").len() - 1;
    for sent in [0, 20, begun] {
        let reply = move || Reply::Stalls(http(200, "X-Test: 1", "{}")[..sent].to_vec());
        let error = error_of(reply, |options| options.timeout = timeout).await;
        assert_eq!(error, ProviderError::Timeout { provider: "prometheus".into(), after: timeout });
    }
    Ok(())
}

pub async fn a_huge_answer_is_not_read_to_its_end() -> Result {
    let error = error_of(|| Reply::Endless, |_| ()).await;
    assert!(variant(&error) == "refused" && error.to_string().contains("larger than 16777216 bytes"), "{error}");
    Ok(())
}

pub async fn an_answer_that_breaks_off_is_none() -> Result {
    let cut = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"status\":".to_vec();
    let error = error_of(move || Reply::Raw(cut.clone()), |_| ()).await;
    assert!(variant(&error) == "unavailable" && error.to_string().contains("broke off"), "{error}");
    let error = error_of(|| Reply::Raw(b"SSH-2.0-OpenSSH\r\n".to_vec()), |_| ()).await;
    assert_eq!(variant(&error), "unavailable", "{error}");
    Ok(())
}

pub async fn a_credential_that_a_server_sends_back_is_not_shown() -> Result {
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(b"tok-123456\n")?;
    for (user, shown) in [(None, "Bearer ***"), (Some("me".to_owned()), "Basic ***")] {
        let server =
            Double::start(|asked| Reply::Status(403, "X-Test: 1", asked.headers["authorization"].clone())).await;
        let mut options = PrometheusOptions::new(server.url());
        match user {
            None => options.bearer_token_file = Some(file.path().into()),
            user => (options.basic_auth_user, options.basic_auth_password_file) = (user, Some(file.path().into())),
        }
        let error = provider(options)?.usage(&[query("shop", "Pod/bare", "app", HOUR)]).await.unwrap_err();
        assert!(error.to_string().contains(shown), "{error}");
    }
    Ok(())
}

/// What `tracing` is told while one question is asked, on a thread of its own so that it is of nobody else.
fn log_of(options: PrometheusOptions) -> Result<String> {
    let (log, runtime) =
        (tempfile::NamedTempFile::new()?, tokio::runtime::Builder::new_current_thread().enable_all().build()?);
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(log.reopen()?).finish();
    let (provider, queries) = (provider(options)?, [query("shop", "Pod/bare", "app", HOUR)]);
    tracing::subscriber::with_default(subscriber, || runtime.block_on(provider.usage(&queries)))?;
    Ok(std::fs::read_to_string(log.path())?)
}

pub async fn no_credential_is_logged_even_where_everything_is() -> Result {
    let server = Double::start(|asked| usual(asked, &[], "")).await;
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(b"tok-123456\n")?;
    let file = Some(file.path().to_owned());
    let asking = PrometheusOptions::new(server.url());
    let bearer = PrometheusOptions { bearer_token_file: file.clone(), ..asking.clone() };
    let basic =
        PrometheusOptions { basic_auth_user: Some("me".into()), basic_auth_password_file: file.clone(), ..asking };
    // The second is `me:tok-123456`, as the header has it.
    for (options, secret) in [(bearer, "tok-123456"), (basic, "bWU6dG9rLTEyMzQ1Ng==")] {
        let log = tokio::task::spawn_blocking(|| log_of(options)).await??;
        assert!(server.asked().iter().any(|asked| asked.headers["authorization"].contains(secret)));
        assert!(log.contains("TRACE"), "{log}");
        for secret in ["tok-123456", secret] {
            assert!(!log.contains(secret), "{log}");
        }
    }
    Ok(())
}

pub async fn a_file_that_cannot_be_read_is_named_and_mending_it_is_enough() -> Result {
    let folder = tempfile::tempdir()?;
    let server = Double::start(|asked| usual(asked, &[], "")).await;
    let file = folder.path().join("token");
    let asking = PrometheusOptions { bearer_token_file: Some(file.clone()), ..PrometheusOptions::new(server.url()) };
    let provider = provider(asking)?;
    let ask = async || provider.usage(&[query("shop", "Pod/bare", "app", HOUR)]).await.map_err(|e| e.to_string());
    for (content, part) in [(None, "cannot read"), (Some(&b" \n"[..]), "is empty"), (Some(b"\xff"), "holds no text")] {
        content.map(|content| std::fs::write(&file, content)).transpose()?;
        let error = ask().await.unwrap_err();
        assert!(error.contains(part) && error.contains(&file.display().to_string()), "{error}");
        assert!(provider.check_files().is_err());
    }
    std::fs::write(&file, "token")?;
    assert_eq!(ask().await, Ok(vec![None]));
    assert!(provider.check_files().is_ok());
    assert!(server.asked().iter().all(|asked| asked.headers["authorization"] == "Bearer token"));
    Ok(())
}

pub async fn options_that_cannot_be_used_are_refused_at_the_start() -> Result {
    let refused = |change: &dyn Fn(&mut PrometheusOptions)| {
        let mut options = PrometheusOptions::new("http://127.0.0.1:1");
        change(&mut options);
        PrometheusProvider::new(options, Clock::system()).err().map(|error| error.to_string()).unwrap_or_default()
    };
    let url = |url: &str| refused(&|options| url.clone_into(&mut options.url));
    assert!(url("prometheus:9090").contains("prometheus.url"));
    assert!(url("ftp://host").contains("http or https"));
    assert!(url("http://host?x=1").contains("without a query"));
    assert!(url("").contains("prometheus.url"));
    let secret = url("http://me:pass-word@host");
    assert!(secret.contains("holds credentials") && !secret.contains("pass-word"), "{secret}");
    let header = |name: &str, value: &str| refused(&|o| drop(o.headers.insert(name.to_owned(), value.to_owned())));
    assert!(header("Authorization", "x").contains("credentials come from files"));
    assert!(header("a b", "x").contains("no header"));
    assert!(!header("X-Key", "se\ncret").is_empty() && !header("X-Key", "se\ncret").contains("cret"));
    assert!(refused(&|o| o.basic_auth_user = Some("me".into())).contains("go together"));
    assert!(refused(&|o| o.key_file = Some("/key".into())).contains("go together"));
    Ok(())
}
