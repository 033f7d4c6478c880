//! The questions to the API server: who holds a token, and what they may do.
//!
//! Invariants: every question has a deadline, and a bounded number is under way; an answer that is not clearly yes is
//! not yes.

use super::answers::Answer;
use super::rights::{GROUP, Right, VERB};
use crate::clock::Clock;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::PostParams;
use kube::{Api, Client};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// The longest that one question may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// Questions under way at once.
const AT_ONCE: usize = 16;
/// Characters of the API server's words that are passed on.
const MOST_WORDS: usize = 300;

/// Asks the API server.
#[derive(Clone)]
pub(super) struct Reviewer {
    client: Client,
    audience: String,
    clock: Clock,
    turns: Arc<Semaphore>,
}

impl Reviewer {
    pub(super) fn new(client: Client, audience: String, clock: Clock) -> Self {
        Self { client, audience, clock, turns: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Who holds `token`, and how long that may be believed: never beyond the token's own end.
    pub(super) async fn identify(self, token: String) -> (Answer<Arc<UserInfo>>, Duration) {
        let spec = TokenReviewSpec { audiences: Some(vec![self.audience.clone()]), token: token.clone() };
        let answer = match self.create(&TokenReview { spec, ..TokenReview::default() }).await {
            Ok(review) => self.read(review),
            Err(cause) => Answer::Unknown(cause),
        };
        let lasts = match expiry(&token) {
            Some(end) => answer.lasts().min(crate::clock::between(self.clock.now(), end)),
            None => answer.lasts(),
        };
        (answer, lasts)
    }

    fn read(&self, review: TokenReview) -> Answer<Arc<UserInfo>> {
        let status = review.status.unwrap_or_default();
        // Whoever does not know audiences answers without them: such a token was made for the API server.
        let for_us = status.audiences.unwrap_or_default().contains(&self.audience);
        match (status.authenticated, status.user) {
            (Some(true), Some(user)) if for_us && user.username.as_ref().is_some_and(|name| !name.is_empty()) => {
                Answer::Yes(Arc::new(user))
            }
            (Some(true), _) => Answer::No("it was issued for another audience".to_owned()),
            _ => Answer::No(shortened(&status.error.unwrap_or_else(|| "it is not known".to_owned()))),
        }
    }

    /// Whether `user` has `right` in `namespace`, or in all where that is `None`.
    pub(super) async fn authorise(
        self,
        user: Arc<UserInfo>,
        right: Right,
        namespace: Option<String>,
    ) -> (Answer<()>, Duration) {
        let spec = access(&user, right, namespace);
        let answer = match self.create(&SubjectAccessReview { spec, ..SubjectAccessReview::default() }).await {
            Ok(review) => match review.status {
                Some(status) if status.allowed && status.denied != Some(true) => Answer::Yes(()),
                status => Answer::No(status.and_then(|status| status.reason).unwrap_or_default()),
            },
            Err(cause) => Answer::Unknown(cause),
        };
        let lasts = answer.lasts();
        (answer, lasts)
    }

    /// A review is a question; nothing is stored.
    async fn create<K>(&self, review: &K) -> Result<K, String>
    where
        K: kube::Resource<DynamicType = ()> + Clone + Serialize + DeserializeOwned + std::fmt::Debug,
    {
        let kind = K::kind(&());
        let ask = async {
            let _turn = self.turns.acquire().await.map_err(|error| error.to_string())?;
            Api::all(self.client.clone())
                .create(&PostParams::default(), review)
                .await
                .map_err(|error| error.to_string())
        };
        let answer = tokio::time::timeout(DEADLINE, ask).await;
        let answer = answer.unwrap_or_else(|_| Err(format!("no answer within {DEADLINE:?}")));
        answer.map_err(|cause| {
            tracing::warn!(kind = %kind, cause, "callers cannot be checked; is the right to create this granted (deploy/rbac.yaml)?");
            format!("the API server did not answer a {kind}: {}", shortened(&cause))
        })
    }
}

fn access(user: &UserInfo, right: Right, namespace: Option<String>) -> SubjectAccessReviewSpec {
    let attributes = ResourceAttributes {
        group: Some(GROUP.to_owned()),
        resource: Some(right.resource().to_owned()),
        verb: Some(VERB.to_owned()),
        namespace,
        ..ResourceAttributes::default()
    };
    SubjectAccessReviewSpec {
        user: user.username.clone(),
        uid: user.uid.clone(),
        groups: user.groups.clone(),
        extra: user.extra.clone(),
        resource_attributes: Some(attributes),
        ..SubjectAccessReviewSpec::default()
    }
}

/// When a JSON Web Token ends by its own words, which the API server has checked; `None` for other tokens.
pub(super) fn expiry(token: &str) -> Option<Timestamp> {
    #[derive(serde::Deserialize)]
    struct Claims {
        exp: i64,
    }
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    Timestamp::from_second(serde_json::from_slice::<Claims>(&payload).ok()?.exp).ok()
}

fn shortened(text: &str) -> String {
    text.chars().take(MOST_WORDS).collect()
}
