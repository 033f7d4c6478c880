//! Leader election by the Lease `optipod-controller` in our own namespace. Its owner is our service account, so that it goes
//! when OptiPod is uninstalled.
//!
//! Our own and not the crate kube-lease-manager: that one measures with the system clock and random jitter, so that it
//! neither follows a paused timeline nor tells when the lease was last renewed, which every write is checked against.
//!
//! As in client-go: another's lease has run out when it did not change for its duration on OUR monotonic clock; clocks of
//! two machines are never compared. Invariant: [`Leadership::covers`] is true only for moments before our last renewal,
//! counted from before it was sent, plus the lease's duration. Only a lease that somebody deletes can have two holders, until
//! the first of them next reaches the API server: then too, no write changes another object than the one decided upon.

use super::errors::WriteError;
use super::writer;
use crate::clock::Clock;
use crate::plant::planted;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::Client;
use kube::api::ObjectMeta;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

const NAME: &str = "optipod-controller";
/// Long enough for one write with its deadline between two renewals.
const DURATION: Duration = Duration::from_secs(30);
const RENEW_EVERY: Duration = Duration::from_secs(5);
const RETRY_EVERY: Duration = Duration::from_secs(2);

/// Thirty years.
const ALWAYS: Duration = Duration::from_hours(24 * 365 * 30);

/// Until when we lead, and since which time of taking the lease.
#[derive(Clone, Debug)]
pub(super) struct Leadership(watch::Sender<Option<Term>>);

/// One stretch of leading; what another leader may have done lies between two.
#[derive(Clone, Copy, Debug)]
struct Term {
    /// `acquireTime` of the lease while it is ours: by our own clock, another one each time that we take it.
    since: Timestamp,
    until: Instant,
}

impl Leadership {
    /// Without an election we always lead.
    pub(super) fn without_election() -> Self {
        Self(watch::Sender::new(Some(Term { since: Timestamp::UNIX_EPOCH, until: Instant::now() + ALWAYS })))
    }

    fn none() -> Self {
        Self(watch::Sender::new(None))
    }

    /// We lead at that moment, if nothing is renewed until then.
    pub(super) fn covers(&self, moment: Instant) -> bool {
        self.0.borrow().is_some_and(|term| moment <= term.until)
    }

    /// Since when we lead now, if we do. Another time than before: somebody else may have led in between.
    pub(super) fn term(&self) -> Option<Timestamp> {
        let term = *self.0.borrow();
        term.filter(|term| Instant::now() <= term.until).map(|term| term.since)
    }

    /// Waits for a renewal, an acquisition or a loss.
    pub(super) async fn changed(&self) {
        // The sender is part of `self`: waiting cannot fail.
        let _ = self.0.subscribe().changed().await;
    }
}

/// Holds or waits for the lease.
pub(super) struct Elector {
    client: Client,
    namespace: String,
    identity: String,
    clock: Clock,
    deadline: Duration,
    leadership: Leadership,
    /// The lease as last seen, and since when it has not changed.
    seen: Option<(Lease, Instant)>,
}

impl Elector {
    pub(super) fn new(client: Client, namespace: String, identity: String, clock: Clock, deadline: Duration) -> Self {
        let deadline = deadline.min(RENEW_EVERY);
        Self { client, namespace, identity, clock, deadline, leadership: Leadership::none(), seen: None }
    }

    pub(super) fn leadership(&self) -> Leadership {
        self.leadership.clone()
    }

    /// Acquires and renews until `stop`, then gives the lease back.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let pause = self.turn().await;
            tokio::select! { biased; () = stop.cancelled() => {}, () = sleep(pause) => {} }
        }
        self.release().await;
    }

    /// One attempt to hold the lease; answers how long to wait for the next.
    async fn turn(&mut self) -> Duration {
        let started = Instant::now();
        match timeout(self.deadline, self.hold()).await {
            Ok(Ok(true)) => {
                self.leadership.0.send_replace(Some(Term { since: self.acquired(), until: started + DURATION }));
                return RENEW_EVERY;
            }
            Ok(Ok(false)) => {
                self.leadership.0.send_if_modified(|term| term.take().is_some());
            }
            // What was renewed before counts until it runs out.
            Ok(Err(error)) => {
                tracing::warn!(%error, "the lease {}/{NAME} could not be renewed", self.namespace);
                self.seen = None;
            }
            Err(_) => {
                let (deadline, namespace) = (self.deadline, &self.namespace);
                tracing::warn!("the lease {namespace}/{NAME} could not be renewed: no answer within {deadline:?}");
                self.seen = None;
            }
        }
        RETRY_EVERY
    }

    fn acquired(&self) -> Timestamp {
        let spec = self.seen.as_ref().and_then(|(lease, _)| lease.spec.as_ref());
        spec.and_then(|spec| spec.acquire_time.as_ref()).map(|time| time.0).unwrap_or_default()
    }

    /// Takes or renews the lease; false while another holds it.
    async fn hold(&mut self) -> Result<bool, WriteError> {
        let ours = self.seen.as_ref().is_some_and(|(lease, _)| holder(lease) == self.identity);
        if !ours {
            let found = writer::read_lease(&self.client, &self.namespace, NAME).await?;
            self.note(found);
        }
        let Some((lease, since)) = &self.seen else {
            return self.write(None).await;
        };
        let lasts = lease.spec.as_ref().and_then(|s| s.lease_duration_seconds).unwrap_or_default();
        let lasts = Duration::from_secs(u64::try_from(lasts).unwrap_or_default());
        let free =
            holder(lease).is_empty() || holder(lease) == self.identity || since.elapsed() > lasts || planted(115);
        if free { self.write(Some(lease.clone())).await } else { Ok(false) }
    }

    fn note(&mut self, found: Option<Lease>) {
        let version = |lease: &Lease| lease.metadata.resource_version.clone();
        let unchanged = match (&self.seen, &found) {
            (Some((seen, _)), Some(found)) => version(seen) == version(found),
            _ => false,
        };
        if !unchanged {
            self.seen = found.map(|lease| (lease, Instant::now()));
        }
    }

    async fn write(&mut self, before: Option<Lease>) -> Result<bool, WriteError> {
        let now = MicroTime(self.clock.now());
        let spec = before.as_ref().and_then(|lease| lease.spec.clone()).unwrap_or_default();
        let renewed = spec.holder_identity.as_deref() == Some(&self.identity);
        let metadata = match before {
            Some(lease) => lease.metadata,
            None => self.metadata().await,
        };
        let lease = Lease {
            metadata,
            spec: Some(LeaseSpec {
                holder_identity: Some(self.identity.clone()),
                lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
                acquire_time: if renewed { spec.acquire_time } else { Some(now.clone()) },
                renew_time: Some(now),
                lease_transitions: Some(spec.lease_transitions.unwrap_or_default() + i32::from(!renewed)),
                ..LeaseSpec::default()
            }),
        };
        match writer::write_lease(&self.client, &self.namespace, &lease).await {
            Ok(lease) => {
                self.seen = Some((lease, Instant::now()));
                Ok(true)
            }
            // Somebody was faster: look again.
            Err(WriteError::Stale | WriteError::Gone) => {
                self.seen = None;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Of a lease that is not there yet.
    async fn metadata(&self) -> ObjectMeta {
        let asked = timeout(self.deadline / 2, writer::own_account(&self.client, &self.namespace)).await;
        let asked = asked.unwrap_or_else(|_| Err(WriteError::Unknown("no answer".to_owned())));
        let owner = asked.unwrap_or_else(|error| {
            tracing::warn!(%error, "our service account is not known; the lease {}/{NAME} will outlive an uninstall", self.namespace);
            None
        });
        ObjectMeta {
            name: Some(NAME.to_owned()),
            namespace: Some(self.namespace.clone()),
            owner_references: owner.map(|owner| vec![owner]),
            ..ObjectMeta::default()
        }
    }

    /// Empties the lease, so that the next leader need not wait.
    async fn release(&mut self) {
        self.leadership.0.send_replace(None);
        let Some((mut lease, _)) = self.seen.take() else { return };
        if holder(&lease) != self.identity {
            return;
        }
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = Some(String::new());
            spec.renew_time = Some(MicroTime(self.clock.now()));
        }
        let written = timeout(self.deadline, writer::write_lease(&self.client, &self.namespace, &lease)).await;
        if !matches!(written, Ok(Ok(_))) {
            tracing::warn!("the lease {}/{NAME} could not be given back; it runs out by itself", self.namespace);
        }
    }
}

fn holder(lease: &Lease) -> &str {
    lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default()
}
