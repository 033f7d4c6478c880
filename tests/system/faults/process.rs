//! One process of the controller: it can crash, stand still, be restarted, and have its clock set.
//!
//! Everything that it asks passes a gate, so that a crash stops what it has begun: what was not sent is never sent, and an
//! answer that comes later is heard by nobody.

use super::plot::{self, Plot};
use super::schedule::Effect;
use super::stage::Stage;
use http::{Request, Response};
use kube::client::Body;
use optipod::clock::Clock;
use optipod::controller::{Controller, ControllerOptions, Deps, Providers};
use optipod_sim::{SimBody, SimService};
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

#[derive(Debug)]
struct Life {
    is_dead: bool,
    still_until: Instant,
}

/// Where all requests of a process pass.
#[derive(Clone)]
pub struct Gate {
    service: SimService,
    stage: Arc<Stage>,
    plot: Arc<Plot>,
    pub user: String,
    round_trip: Duration,
    life: Arc<Mutex<Life>>,
    moved: Arc<Notify>,
}

impl Gate {
    pub fn kill(&self) {
        self.life.lock().unwrap().is_dead = true;
    }

    fn is_dead(&self) -> bool {
        self.life.lock().unwrap().is_dead
    }

    pub fn stand_still(&self, time: Duration) {
        self.life.lock().unwrap().still_until = Instant::now() + time;
        let now = self.stage.now_ms();
        let until = now + u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.stage.notes.lock().unwrap().pauses.push((now, until));
        self.moved.notify_waiters();
    }

    fn still_until(&self) -> Option<Instant> {
        let until = self.life.lock().unwrap().still_until;
        (until > Instant::now()).then_some(until)
    }

    async fn pass(self, request: Request<Body>) -> Result<Response<SimBody>, std::io::Error> {
        while let Some(until) = self.still_until() {
            sleep_until(until).await;
        }
        if self.is_dead() {
            return std::future::pending().await;
        }
        let is_watch = request.uri().query().is_some_and(|query| query.contains("watch="));
        let is_write = request.method() != http::Method::GET;
        if is_write && plot::object(request.uri().path()).is_some() {
            self.stage.witness(&self.user, &request.uri().to_string());
        }
        let after = if is_write { self.plot.on_write(&self, request.uri().path()) } else { None };
        if self.is_dead() {
            return std::future::pending().await;
        }
        let mut service = self.service.clone();
        let answer = tower::Service::call(&mut service, request).await;
        if let Some(after) = after {
            self.plot.after_write(&self, &after);
            if after.effect == Effect::LoseAnswer {
                return Err(std::io::ErrorKind::ConnectionReset.into());
            }
        }
        if self.is_dead() {
            return std::future::pending().await;
        }
        if !is_watch {
            sleep(self.round_trip).await;
        }
        answer
    }
}

impl tower::Service<Request<Body>> for Gate {
    type Response = Response<SimBody>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.clone().pass(request))
    }
}

/// A running process.
pub struct Process {
    pub gate: Gate,
    ahead: &'static AtomicI64,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Process {
    /// Starts a process under this name, which is its identity and its user.
    pub fn start(stage: &Arc<Stage>, plot: &Arc<Plot>, user: &str, ahead: i64) -> Self {
        let life = Life { is_dead: false, still_until: Instant::now() };
        let gate = Gate {
            service: stage.harness.api.service(user),
            stage: stage.clone(),
            plot: plot.clone(),
            user: user.to_owned(),
            round_trip: plot.round_trip,
            life: Arc::new(Mutex::new(life)),
            moved: Arc::default(),
        };
        // A few bytes for the rest of the test: a clock is copied freely.
        let ahead: &'static AtomicI64 = Box::leak(Box::new(AtomicI64::new(ahead)));
        let stop = CancellationToken::new();
        let running = controller(stage, plot, &gate, ahead).run(stop.clone());
        let task = tokio::spawn(paused_with(gate.clone(), running));
        Self { gate, ahead, stop, task }
    }

    /// Ends at once, whatever it was doing.
    pub fn kill(&self) {
        self.gate.kill();
        self.task.abort();
    }

    /// Ends in an orderly way.
    pub async fn stop(self) {
        self.stop.cancel();
        let _ = self.task.await;
        self.gate.kill();
    }

    /// Sets its wall clock.
    pub fn jump(&self, by: i64) {
        self.ahead.fetch_add(by, Ordering::Relaxed);
    }
}

fn controller(stage: &Stage, plot: &Plot, gate: &Gate, ahead: &'static AtomicI64) -> Controller {
    let harness = &stage.harness;
    let mut options = ControllerOptions::new(super::stage::SYSTEM, gate.user.clone());
    options.dry_run = stage.world.dry_run;
    options.leader_election = plot.is_elected;
    options.max_updates_per_minute = stage.world.max_updates_per_minute;
    let providers = Providers::new("fake").with("fake", harness.provider.clone());
    let client = kube::Client::new(gate.clone(), "default");
    let clock = Clock::set_ahead(harness.api.clock().now(), ahead);
    Controller::new(Deps { client, providers, metrics: harness.metrics.clone(), clock }, options)
}

/// Polls a process only while it does not stand still; its time goes on.
async fn paused_with(gate: Gate, process: impl Future<Output = ()>) {
    let mut process = pin!(process);
    loop {
        if let Some(until) = gate.still_until() {
            sleep_until(until).await;
        }
        tokio::select! {
            biased;
            () = gate.moved.notified() => {}
            () = &mut process => return,
        }
    }
}
