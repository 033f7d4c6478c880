//! Who comes in: TLS, callers that are known and have the right, and no more of them than there is room for.
//!
//! `tls` and `accept` make connections; `layer` asks this file about each request; `reviews` asks the API server, and
//! `answers` keeps what it said; `limit` counts; `refusal` is what comes of it.
//!
//! Invariants: there is a way to be known (token or certificate), or there is no door; what cannot be checked is
//! refused. A token is kept as its hash only, and never logged.

mod accept;
mod answers;
mod certificate;
mod layer;
mod limit;
mod refusal;
mod reviews;
mod rights;
mod tls;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)] // a test that panics has failed
mod tests;

pub use tls::{Look, TlsFiles};

pub(super) use accept::accept;
pub(super) use layer::DoorLayer;

use crate::clock::Clock;
use crate::pem::PemError;
use crate::telemetry::{DoorMetrics, RefusedCall};
use accept::Peer;
use answers::{Answer, Answers};
use k8s_openapi::api::authentication::v1::UserInfo;
use limit::{Allowance, Limiter, Place};
use refusal::Refusal;
use reviews::Reviewer;
use rights::{GROUP, Right, VERB};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use tls::Tls;
use tonic::Status;

/// Requests of one client that are not answered completely yet, and connections of one address.
const AT_ONCE: usize = 64;
/// Callers that are not known (yet) may ask so many times less often, per address: each may cost a question to the API
/// server.
const STRANGERS: u32 = 10;
/// How that is told to them.
const FOR_STRANGERS: &str = "requests of callers that are not known, a tenth of --max-requests-per-second";
/// Connections a second from one address.
const CONNECTIONS_PER_SECOND: u32 = 20;
/// Bytes of a token; those of service accounts have about 1,000.
const MOST_TOKEN_BYTES: usize = 16 * 1024;

/// Who may come in, and how.
#[derive(Clone)]
pub struct DoorOptions {
    /// The files of TLS.
    pub files: TlsFiles,
    /// Certificates by the client authority count when they bear one of these names.
    pub client_names: BTreeSet<String>,
    /// Bearer tokens are asked about here, for this audience; without it none counts.
    pub tokens: Option<(kube::Client, String)>,
    /// Requests a second of one client.
    pub requests_per_second: u32,
    /// Tells when tokens and certificates end.
    pub clock: Clock,
    /// Counts who is refused.
    pub metrics: DoorMetrics,
}

/// Why there is no door.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// A file gives no certificate or key.
    #[error("TLS of the gRPC server: {0}")]
    Pem(#[from] PemError),
    /// Certificate and key cannot be used together.
    #[error(
        "TLS of the gRPC server: {} and {} cannot be used: {cause}; give a certificate and the key that it was made for",
        .cert.display(), .key.display()
    )]
    Unusable {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What is wrong.
        cause: String,
    },
    /// Nobody could come in.
    #[error(
        "gRPC with TLS lets nobody in: leave --token-review on, or give --client-ca-file and --client-names for callers \
         with certificates"
    )]
    NobodyKnown,
}

/// The door of a gRPC server; clones share it.
#[derive(Clone)]
pub struct Door(Arc<Inner>);

struct Inner {
    tls: Tls,
    client_names: BTreeSet<String>,
    tokens: Option<Tokens>,
    connections: Limiter,
    strangers: Limiter,
    known: Limiter,
    clock: Clock,
    metrics: DoorMetrics,
}

/// What is known of tokens.
struct Tokens {
    reviewer: Reviewer,
    audience: String,
    holders: Answers<Digest, Arc<UserInfo>>,
    rights: Answers<(Digest, Right, Option<String>), ()>,
}

/// SHA-256 of a token.
type Digest = [u8; 32];

/// Somebody who may have rights.
enum Caller {
    /// Has shown a certificate with a listed name, which counts for every right.
    Listed(String),
    /// Holds a token.
    Holder(Digest, Arc<UserInfo>),
}

impl Caller {
    fn name(&self) -> &str {
        match self {
            Self::Listed(name) => name,
            Self::Holder(_, user) => user.username.as_deref().unwrap_or_default(),
        }
    }
}

impl Door {
    /// Reads the files of TLS; they must be good at first.
    pub fn new(options: DoorOptions) -> Result<Self, DoorError> {
        let certificates = options.files.client_ca.is_some() && !options.client_names.is_empty();
        if options.tokens.is_none() && !certificates {
            return Err(DoorError::NobodyKnown);
        }
        let clock = options.clock;
        let tokens = options.tokens.map(|(client, audience)| Tokens {
            reviewer: Reviewer::new(client, audience.clone(), clock),
            audience,
            holders: Answers::new(),
            rights: Answers::new(),
        });
        let limiter = |per_second, set_by| Limiter::new(Allowance { per_second, at_once: AT_ONCE, set_by });
        Ok(Self(Arc::new(Inner {
            tls: Tls::new(options.files)?,
            client_names: options.client_names,
            tokens,
            connections: limiter(CONNECTIONS_PER_SECOND, "connections; no flag changes it"),
            strangers: limiter((options.requests_per_second / STRANGERS).max(1), FOR_STRANGERS),
            known: limiter(options.requests_per_second.max(1), "requests, as --max-requests-per-second says"),
            clock,
            metrics: options.metrics,
        })))
    }

    /// Looks at the files of TLS once; [`super::serve_guarded`] does so every 10 s.
    pub fn look(&self) -> Look {
        self.0.tls.look()
    }

    /// Counts a caller that need not be known.
    fn enter_unknown(&self, peer: &Peer) -> Result<Place, Refusal> {
        self.0.strangers.enter(&peer.address)
    }

    /// Who calls, and their place among the requests.
    async fn identify(&self, peer: &Peer, token: Option<&str>) -> Result<(Caller, Place), Refusal> {
        let caller = match (self.listed(peer), token, &self.0.tokens) {
            (Some(name), ..) => Caller::Listed(name),
            (None, Some(token), Some(tokens)) => {
                let _stranger = if tokens.cost_nothing(token) { None } else { Some(self.enter_unknown(peer)?) };
                tokens.identify(token).await?
            }
            (None, ..) => {
                let _stranger = self.enter_unknown(peer)?;
                return Err(self.who_are_you(peer));
            }
        };
        let place = self.0.known.enter(caller.name())?;
        Ok((caller, place))
    }

    /// The name by which a certificate counts.
    fn listed(&self, peer: &Peer) -> Option<String> {
        let certificate = peer.certificate.as_ref().filter(|shown| self.0.clock.now() < shown.until)?;
        certificate.names.iter().find(|name| self.0.client_names.contains(*name)).cloned()
    }

    /// UNAUTHENTICATED, with what would be needed.
    fn who_are_you(&self, peer: &Peer) -> Refusal {
        let shown = match &peer.certificate {
            Some(shown) if self.0.clock.now() >= shown.until => "the client certificate has expired; ".to_owned(),
            Some(shown) => {
                format!("the client certificate is of {:?}, none of which is in --client-names; ", shown.names)
            }
            None => String::new(),
        };
        let token = self.0.tokens.as_ref().map(Tokens::how);
        let certificate =
            (!self.0.client_names.is_empty()).then(|| "a client certificate with a listed name".to_owned());
        let ways: Vec<String> = token.into_iter().chain(certificate).collect();
        Refusal::unauthenticated(format!("{shown}send {}", ways.join(", or ")))
    }

    /// Whether `caller` has `right` in `namespace`, or in all where that is `None`.
    async fn may(&self, caller: &Caller, right: Right, namespace: Option<&str>) -> Result<bool, Refusal> {
        let (Caller::Holder(digest, user), Some(tokens)) = (caller, &self.0.tokens) else { return Ok(true) };
        let key = (*digest, right, namespace.map(str::to_owned));
        let ask = || tokens.reviewer.clone().authorise(user.clone(), right, key.2.clone());
        match tokens.rights.ask(&key, ask).await {
            Answer::Yes(()) => Ok(true),
            Answer::No(_) => Ok(false),
            Answer::Unknown(cause) => Err(unchecked(&cause)),
        }
    }
}

impl Tokens {
    fn cost_nothing(&self, token: &str) -> bool {
        self.holders.is_yes_or_asked(&digest(token))
    }

    async fn identify(&self, token: &str) -> Result<Caller, Refusal> {
        if token.len() > MOST_TOKEN_BYTES {
            return Err(Refusal::unauthenticated(format!("the bearer token is longer than {MOST_TOKEN_BYTES} bytes")));
        }
        let key = digest(token);
        match self.holders.ask(&key, || self.reviewer.clone().identify(token.to_owned())).await {
            Answer::Yes(user) => Ok(Caller::Holder(key, user)),
            Answer::No(why) => {
                Err(Refusal::unauthenticated(format!("the bearer token is not accepted: {why}; send {}", self.how())))
            }
            Answer::Unknown(cause) => Err(unchecked(&cause)),
        }
    }

    fn how(&self) -> String {
        let audience = &self.audience;
        format!(
            "\"authorization: Bearer TOKEN\" with a service account's token for the audience {audience} (a projected \
             volume, or `kubectl create token ACCOUNT --audience {audience}`)"
        )
    }
}

fn digest(token: &str) -> Digest {
    let hash = ring::digest::digest(&ring::digest::SHA256, token.as_bytes());
    // SHA-256 has 32 bytes.
    hash.as_ref().try_into().unwrap_or_default()
}

/// UNAVAILABLE: nobody is let in unchecked.
fn unchecked(cause: &str) -> Refusal {
    let status = Status::unavailable(format!("callers cannot be checked: {cause}; ask again in a second"));
    Refusal::new(RefusedCall::Unchecked, status)
}

/// PERMISSION_DENIED, with the role that would help.
fn forbidden(caller: &Caller, right: Right, namespace: Option<&str>) -> Refusal {
    let place = namespace.map_or("in all namespaces".to_owned(), |name| format!("in namespace {name}"));
    let message = format!(
        "{} may not {VERB} {}.{GROUP} {place}; bind a ClusterRole with that rule to it, such as optipod-usage-reader",
        caller.name(),
        right.resource()
    );
    Refusal::new(RefusedCall::Forbidden, Status::permission_denied(message))
}
