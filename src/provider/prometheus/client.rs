//! Questions over HTTP.
//!
//! It may not know what is asked. Invariants: a question has a deadline and its answer a greatest size; no redirect is
//! followed, so that credentials go to the configured server only; no error shows a credential.

use super::PrometheusOptions;
use super::answer;
use super::secrets::Secrets;
use crate::provider::{ProviderError, TO_MEND_IT, TO_REACH_IT, with_causes};
use bytes::{Bytes, BytesMut};
use http::header::{AUTHORIZATION, CONTENT_TYPE, LOCATION, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as Http;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;

/// The largest answer that is read, in bytes; questions are made so that answers take a quarter of it.
const LARGEST: usize = 16 << 20;

/// How long a connection may take to be set up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Headers that only the client itself may set; credentials come from files.
const RESERVED: [&str; 6] =
    ["authorization", "connection", "content-length", "content-type", "host", "transfer-encoding"];

/// Why there is no answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Failure {
    /// The server cannot be reached, or broke off, or is overloaded.
    Unavailable(String),
    /// The deadline passed.
    Timeout,
    /// The server refuses.
    Refused(String),
    /// The answer is larger than a server or we allow; a question about less time may do.
    TooLarge(String),
}

/// A connection, and the credentials that it was made with.
struct Connected {
    secrets: Secrets,
    authorization: Option<HeaderValue>,
    http: Http<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

/// Asks one server.
pub struct Client {
    options: PrometheusOptions,
    base: String,
    is_tls: bool,
    headers: HeaderMap,
    permits: Semaphore,
    connected: Mutex<Option<Arc<Connected>>>,
}

impl Client {
    /// Connects with the first question.
    ///
    /// # Errors
    /// What is wrong with the options.
    pub fn new(options: PrometheusOptions) -> Result<Self, String> {
        let (base, is_tls) = base_of(&options.url)?;
        let headers = headers_of(&options)?;
        check_pairs(&options)?;
        let permits = Semaphore::new(options.max_concurrency.clamp(1, 1000));
        Ok(Self { options, base, is_tls, headers, permits, connected: Mutex::new(None) })
    }

    /// How many questions may be under way at once.
    pub fn max_concurrency(&self) -> usize {
        self.options.max_concurrency.max(1)
    }

    /// Whether the files with credentials can be used now.
    pub fn check(&self) -> Result<(), Failure> {
        self.connected().map(|_| ())
    }

    /// What callers see.
    pub fn error(&self, failure: Failure) -> ProviderError {
        let provider = super::NAME.to_owned();
        match failure {
            Failure::Unavailable(cause) => ProviderError::Unavailable { provider, cause },
            Failure::Timeout => ProviderError::Timeout { provider, after: self.options.timeout },
            Failure::Refused(cause) | Failure::TooLarge(cause) => ProviderError::Refused { provider, cause },
        }
    }

    /// Asks `api/v1/PATH` with a form, and returns the answer's bytes.
    pub async fn post(&self, path: &str, form: &[(&str, &str)]) -> Result<Bytes, Failure> {
        let _permit = self.permits.acquire().await.map_err(|error| Failure::Unavailable(error.to_string()))?;
        let exchange = tokio::time::timeout(self.options.timeout, self.exchange(path, form)).await;
        exchange.unwrap_or(Err(Failure::Timeout))
    }

    async fn exchange(&self, path: &str, form: &[(&str, &str)]) -> Result<Bytes, Failure> {
        let connected = self.connected()?;
        let url = format!("{}/api/v1/{path}", self.base);
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = url.parse().map_err(|error| Failure::Refused(format!("{url}: {error}")))?;
        let headers = request.headers_mut();
        headers.extend(self.headers.clone());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        headers.extend(connected.authorization.clone().map(|value| (AUTHORIZATION, value)));
        let answered = connected.http.request(request).await;
        let response = answered
            .map_err(|error| Failure::Unavailable(unanswered(&url, &with_causes(error.to_string(), &error))))?;
        let (status, location) = (response.status(), response.headers().get(LOCATION).cloned());
        let body = body_of(response, &url).await?;
        if status == StatusCode::OK {
            return Ok(body);
        }
        let said = connected.secrets.redact(answer::read_error(&body));
        Err(refusal(&url, status, location.as_ref(), &said))
    }

    /// The connection with the credentials that the files hold now.
    fn connected(&self) -> Result<Arc<Connected>, Failure> {
        let secrets = Secrets::read(&self.options).map_err(Failure::Refused)?;
        let mut known = self.connected.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(connected) = known.as_ref().filter(|connected| connected.secrets == secrets) {
            return Ok(connected.clone());
        }
        let connected = Arc::new(self.connect(secrets).map_err(Failure::Refused)?);
        *known = Some(connected.clone());
        Ok(connected)
    }

    fn connect(&self, secrets: Secrets) -> Result<Connected, String> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let builder = HttpsConnectorBuilder::new().with_tls_config(secrets.tls(self.is_tls)?);
        let connector = builder.https_or_http().enable_http1().wrap_connector(tcp);
        let http = Http::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(self.max_concurrency())
            .build(connector);
        Ok(Connected { authorization: secrets.authorization()?, secrets, http })
    }
}

/// The URL without a slash at its end, and whether it is of TLS.
fn base_of(url: &str) -> Result<(String, bool), String> {
    let example = "write for example http://prometheus.monitoring:9090";
    let uri: Uri = url.parse().map_err(|error| format!("prometheus.url is not a URL ({error}); {example}"))?;
    let authority = uri.authority().ok_or_else(|| format!("prometheus.url has no host; {example}"))?;
    if authority.as_str().contains('@') {
        return Err("prometheus.url holds credentials; put them into files (basicAuthPasswordFile)".to_owned());
    }
    let scheme = uri.scheme_str().unwrap_or_default();
    if !matches!(scheme, "http" | "https") || uri.query().is_some() {
        return Err(format!("prometheus.url must be http or https, without a query; {example}"));
    }
    Ok((format!("{scheme}://{authority}{}", uri.path().trim_end_matches('/')), scheme == "https"))
}

fn headers_of(options: &PrometheusOptions) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("optipod/", env!("CARGO_PKG_VERSION"))));
    for (name, value) in &options.headers {
        let known: HeaderName = name.parse().map_err(|_| format!("prometheus.headers: \"{name}\" is no header"))?;
        if RESERVED.contains(&known.as_str()) {
            return Err(format!("prometheus.headers must not set {known}; credentials come from files"));
        }
        let mut value = HeaderValue::try_from(value)
            .map_err(|_| format!("prometheus.headers: the value of {known} has characters that no header has"))?;
        value.set_sensitive(true);
        headers.insert(known, value);
    }
    Ok(headers)
}

/// Settings that only mean something together, or exclude each other.
fn check_pairs(options: &PrometheusOptions) -> Result<(), String> {
    if options.basic_auth_user.is_some() != options.basic_auth_password_file.is_some() {
        return Err("prometheus.basicAuthUser and basicAuthPasswordFile go together; set both or none".to_owned());
    }
    if options.cert_file.is_some() != options.key_file.is_some() {
        return Err("prometheus.certFile and keyFile go together; set both or none".to_owned());
    }
    if options.bearer_token_file.is_some() && options.basic_auth_user.is_some() {
        return Err("prometheus.bearerTokenFile and basicAuthUser exclude each other; set one".to_owned());
    }
    Ok(())
}

async fn body_of<B>(response: Response<B>, url: &str) -> Result<Bytes, Failure>
where
    B: BodyExt<Data = Bytes> + Unpin,
    B::Error: std::error::Error + 'static,
{
    let mut body = response.into_body();
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            let cause = with_causes(error.to_string(), &error);
            Failure::Unavailable(format!("{url} broke off: {cause}; {TO_MEND_IT}"))
        })?;
        let Ok(data) = frame.into_data() else { continue };
        if read.len() + data.len() > LARGEST {
            return Err(Failure::TooLarge(format!("{url}: the answer is larger than {LARGEST} bytes")));
        }
        read.extend_from_slice(&data);
    }
    Ok(read.freeze())
}

/// Why nothing came, with what to do about certificates.
fn unanswered(url: &str, cause: &str) -> String {
    let is_of_trust = ["UnknownIssuer", "BadSignature"].iter().any(|word| cause.contains(word));
    let for_trust = "set prometheus.caFile to the authority that signed its certificate";
    format!("{url}: {cause}; {}", if is_of_trust { for_trust } else { TO_REACH_IT })
}

/// What a status other than 200 means.
fn refusal(url: &str, status: StatusCode, location: Option<&HeaderValue>, said: &str) -> Failure {
    let told = format!("{url} answers {}: {said}", status.as_u16());
    match status.as_u16() {
        300..=399 => {
            let to = location.and_then(|to| to.to_str().ok()).unwrap_or("nowhere").split(['?', '#']).next();
            let to: String = to.unwrap_or_default().chars().take(200).collect();
            Failure::Refused(format!(
                "{url} redirects to {to}; redirects are not followed: set prometheus.url to where it really is"
            ))
        }
        401 => Failure::Refused(format!("{told}; check the files with the credentials (prometheus.*File)")),
        403 => Failure::Refused(format!("{told}; these credentials may not read metrics there")),
        404 => {
            Failure::Refused(format!("{told}; check the path in prometheus.url (of Mimir it ends with /prometheus)"))
        }
        413 => Failure::TooLarge(told),
        422 if is_too_much(said) => Failure::TooLarge(told),
        429 => Failure::Unavailable(format!("{told}; a smaller prometheus.maxConcurrency asks less at once")),
        408 | 425 | 500.. => Failure::Unavailable(format!("{told}; {TO_MEND_IT}")),
        _ => Failure::Refused(told),
    }
}

/// Words by which Prometheus, VictoriaMetrics and Mimir say that a question loads too much.
fn is_too_much(said: &str) -> bool {
    ["too many samples", "more than -search.max", "exceeded the maximum number of"]
        .iter()
        .any(|words| said.contains(words))
}
