//! The `tower::Service`: one HTTP request in, one answer out, with faults on the way.
//!
//! What it may not know: how anything is stored or judged.
//! Invariant: every request ends in the journal, whatever became of its answer.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use kube::client::Body;
use serde_json::Value;

use super::SimApi;
use super::access::{Asked, WHO, who};
use super::answer::{Answer, SimBody, broken, injected, plain, refusal, render};
use super::faults::Fault;
use super::journal::Entry;
use super::metrics::Encoding;
use super::read::{View, selector};
use super::route::{self, Query, Route, Target};
use super::state::State;
use super::status::StatusError;
use super::watch::{Impairment, Watch};
use super::write::{Writer, Written};

/// A connection to the double, speaking as one user.
#[derive(Clone, Debug)]
pub struct SimService {
    api: SimApi,
    user: String,
}

impl SimService {
    pub(crate) fn new(api: SimApi, user: &str) -> Self {
        Self { api, user: user.to_owned() }
    }
}

impl tower::Service<Request<Body>> for SimService {
    type Response = Response<SimBody>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move { service.serve(request).await })
    }
}

/// A request, read.
struct Call {
    method: http::Method,
    path: String,
    query: Query,
    accept: String,
    body: Bytes,
}

impl SimService {
    async fn serve(self, request: Request<Body>) -> Result<Response<SimBody>, std::io::Error> {
        let (parts, body) = request.into_parts();
        let body = body.collect_bytes().await.map_err(std::io::Error::other)?;
        let header = |name: http::header::HeaderName| {
            let value = parts.headers.get(name).and_then(|value| value.to_str().ok());
            value.unwrap_or_default().to_owned()
        };
        let call = Call {
            method: parts.method.clone(),
            path: parts.uri.path().to_owned(),
            query: Query::parse(parts.uri.query().unwrap_or_default()),
            accept: header(http::header::ACCEPT),
            body,
        };
        let mut entry = self.describe(&call, &parts.uri.to_string());
        entry.user_agent = header(http::header::USER_AGENT);
        entry.content_type = header(http::header::CONTENT_TYPE);
        self.carry_out(&call, entry).await
    }

    /// What the journal says of the request before it is carried out.
    fn describe(&self, call: &Call, uri: &str) -> Entry {
        let mut entry = Entry {
            at_ms: u64::try_from(self.api.clock().elapsed().as_millis()).unwrap_or(u64::MAX),
            user: self.user.clone(),
            method: call.method.to_string(),
            path: uri.to_owned(),
            field_manager: call.query.get("fieldManager").to_owned(),
            dry_run: call.query.get("dryRun") == "All",
            body: serde_json::from_slice(&call.body).unwrap_or_default(),
            ..Entry::default()
        };
        let routed = route::route(&self.api.lock().registry, &call.path);
        match routed {
            Ok(Route::Object(target)) => name_target(&mut entry, call, &target),
            Ok(Route::Metrics { namespace, name }) => {
                let verb = if name.is_some() { "get" } else { "list" };
                verb.clone_into(&mut entry.verb);
                "metrics.k8s.io".clone_into(&mut entry.group);
                "pods".clone_into(&mut entry.resource);
                entry.namespace = namespace.unwrap_or_default();
                entry.name = name.unwrap_or_default();
            }
            Ok(Route::Review(review)) => {
                let group = if review == WHO { "authentication.k8s.io" } else { "authorization.k8s.io" };
                group.clone_into(&mut entry.group);
                entry.resource = review;
            }
            _ => {}
        }
        entry
    }

    async fn carry_out(&self, call: &Call, mut entry: Entry) -> Result<Response<SimBody>, std::io::Error> {
        let faults = self.api.lock().faults.strike(&entry);
        let mut impairment = Impairment::default();
        let mut after = None;
        for fault in faults {
            entry.fault = format!("{fault:?}");
            match fault {
                Fault::Latency(delay) => tokio::time::sleep(delay).await,
                Fault::CutWatch(delay) => impairment.cut_after = Some(delay),
                Fault::LagWatch(delay) => impairment.lag = delay,
                Fault::EchoWatch => impairment.echo = true,
                Fault::ShuffleWatch => impairment.shuffle = true,
                Fault::DropAfter | Fault::Garbage => after = Some(fault),
                Fault::Hang => return self.hang(entry).await,
                Fault::DropBefore => {
                    self.api.lock().journal.record(entry);
                    return Err(broken());
                }
                refused => return Ok(self.refuse(entry, &injected(&refused))),
            }
        }
        let (answer, entry) = self.answer(call, entry, impairment);
        match after {
            Some(Fault::DropAfter) => {
                self.api.lock().journal.record(Entry { code: 0, ..entry });
                Err(broken())
            }
            Some(_) => {
                self.api.lock().journal.record(entry);
                Ok(plain(200, "application/json", Bytes::from_static(b"{\"kind\":\"Pod\",\"met")))
            }
            None => {
                self.api.lock().journal.record(entry);
                Ok(render(answer))
            }
        }
    }

    async fn hang(&self, entry: Entry) -> Result<Response<SimBody>, std::io::Error> {
        self.api.lock().journal.record(entry);
        std::future::pending().await
    }

    fn refuse(&self, mut entry: Entry, error: &StatusError) -> Response<SimBody> {
        note(&mut entry, error);
        self.api.lock().journal.record(entry);
        refusal(error)
    }

    fn answer(&self, call: &Call, mut entry: Entry, impairment: Impairment) -> (Result<Answer, StatusError>, Entry) {
        let mut state = self.api.lock();
        let answer = self.dispatch(&mut state, call, &mut entry, impairment);
        match &answer {
            Ok(Answer::Json(code, _)) => entry.code = *code,
            Ok(_) => entry.code = 200,
            Err(error) => note(&mut entry, error),
        }
        (answer, entry)
    }

    fn dispatch(
        &self,
        state: &mut State,
        call: &Call,
        entry: &mut Entry,
        impairment: Impairment,
    ) -> Result<Answer, StatusError> {
        match route::route(&state.registry, &call.path)? {
            Route::Health => Ok(Answer::Json(200, Value::String("ok".to_owned()))),
            Route::Discovery(parts) => state.discover(&parts).map(|body| Answer::Json(200, body)),
            Route::Review(review) => self.review(state, call, &review),
            Route::Metrics { namespace, name } => {
                if call.method != http::Method::GET {
                    return Err(StatusError::method_not_allowed());
                }
                state.access.check(&self.user, &asked(entry))?;
                let now = self.api.clock().now();
                let protobuf = "application/vnd.kubernetes.protobuf";
                let (encoding, content_type) = if call.accept.starts_with(protobuf) && name.is_none() {
                    (Encoding::Protobuf, protobuf)
                } else {
                    (Encoding::Json, "application/json")
                };
                let (namespace, name) = (namespace.as_deref(), name.as_deref());
                let body = state.read_metrics(namespace, name, &call.query, now, encoding)?;
                Ok(Answer::Bytes(content_type, body))
            }
            Route::Object(target) => self.object(state, call, entry, &target, impairment),
        }
    }

    fn review(&self, state: &State, call: &Call, review: &str) -> Result<Answer, StatusError> {
        if call.method != http::Method::POST {
            return Err(StatusError::method_not_allowed());
        }
        let body = parse(&call.body)?;
        match review {
            WHO => Ok(Answer::Json(201, who(&self.user, body))),
            "selfsubjectaccessreviews" => Ok(Answer::Json(201, state.access.review(&self.user, body))),
            "selfsubjectrulesreviews" => {
                let answer = state.access.rules(&self.user, &state.registry, body);
                Ok(Answer::Json(201, answer))
            }
            _ => Err(StatusError::no_such_path()),
        }
    }

    fn object(
        &self,
        state: &mut State,
        call: &Call,
        entry: &mut Entry,
        target: &Target,
        impairment: Impairment,
    ) -> Result<Answer, StatusError> {
        let verb = route::verb(&call.method, target, &call.query)?;
        check_subresource(state, target, verb)?;
        state.access.check(&self.user, &asked(entry))?;
        let view = View::of(&call.accept);
        match verb {
            "get" => return state.read(target, view).map(|body| Answer::Json(200, body)),
            "list" => {
                let body = state.list(target, &call.query, view)?;
                return Ok(Answer::Json(200, body));
            }
            "watch" => {
                let watch = Watch::open(&self.api, state, target, &call.query, view, impairment)?;
                return Ok(Answer::Watch(Box::new(watch)));
            }
            _ => {}
        }
        let writer = self.writer(call, entry);
        if verb == "deletecollection" {
            return delete_collection(state, call, entry, target, &writer);
        }
        let written = write(state, call, entry, target, &writer, verb)?;
        entry.changed = written.changed;
        entry.before.clone_from(&written.before);
        entry.after = written.changed.then(|| written.answer.clone());
        Ok(Answer::Json(written.code, view.show(&target.kind, &written.answer)))
    }

    fn writer(&self, call: &Call, entry: &Entry) -> Writer {
        let manager = if entry.field_manager.is_empty() {
            let agent = entry.user_agent.split('/').next().unwrap_or_default();
            if agent.is_empty() { "unknown" } else { agent }
        } else {
            &entry.field_manager
        };
        Writer {
            manager: Some(manager.to_owned()),
            dry_run: entry.dry_run,
            force: call.query.flag("force"),
            now: crate::clock::rfc3339(self.api.clock().now()),
        }
    }
}

fn write(
    state: &mut State,
    call: &Call,
    entry: &Entry,
    target: &Target,
    writer: &Writer,
    verb: &str,
) -> Result<Written, StatusError> {
    match verb {
        "create" => state.create(target, parse(&call.body)?, writer),
        "update" => state.update(target, parse(&call.body)?, writer),
        "patch" => {
            let applies = entry.content_type.starts_with("application/apply-patch");
            if applies && entry.field_manager.is_empty() {
                return Err(missing_manager());
            }
            state.patch(target, &entry.content_type, &parse(&call.body)?, writer)
        }
        _ if call.body.is_empty() => state.delete(target, &Value::Null, writer),
        _ => state.delete(target, &parse(&call.body)?, writer),
    }
}

fn name_target(entry: &mut Entry, call: &Call, target: &Target) {
    let verb = route::verb(&call.method, target, &call.query).unwrap_or_default();
    verb.clone_into(&mut entry.verb);
    entry.group.clone_from(&target.kind.group);
    entry.resource.clone_from(&target.kind.plural);
    target.subresource().clone_into(&mut entry.subresource);
    target.namespace().clone_into(&mut entry.namespace);
    target.name().clone_into(&mut entry.name);
}

fn asked(entry: &Entry) -> Asked<'_> {
    Asked {
        verb: &entry.verb,
        group: &entry.group,
        resource: &entry.resource,
        subresource: &entry.subresource,
        namespace: &entry.namespace,
        name: &entry.name,
    }
}

fn check_subresource(state: &State, target: &Target, verb: &str) -> Result<(), StatusError> {
    let served = match target.subresource() {
        "" => true,
        "status" => target.kind.status,
        "resize" => target.kind.is("", "pods") && state.resize_served,
        _ => false,
    };
    if !served {
        return Err(StatusError::no_such_path());
    }
    let writable = target.subresource.is_none() || ["get", "update", "patch"].contains(&verb);
    let placed = verb != "create" || !target.kind.namespaced || target.namespace.is_some();
    if writable && placed { Ok(()) } else { Err(StatusError::method_not_allowed()) }
}

fn delete_collection(
    state: &mut State,
    call: &Call,
    entry: &mut Entry,
    target: &Target,
    writer: &Writer,
) -> Result<Answer, StatusError> {
    let objects = state.select(target, &selector(&target.kind, &call.query)?);
    let body = if call.body.is_empty() { Value::Null } else { parse(&call.body)? };
    entry.changed = state.delete_collection(&target.kind, &objects, &body, writer);
    let list = state.list(target, &call.query, View::Whole)?;
    Ok(Answer::Json(200, list))
}

fn parse(body: &[u8]) -> Result<Value, StatusError> {
    serde_json::from_slice(body)
        .map_err(|error| StatusError::bad_request(format!("couldn't get version/kind; json parse error: {error}")))
}

fn missing_manager() -> StatusError {
    StatusError::new(
        422,
        "Invalid",
        "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for \
         apply patch",
    )
}

fn note(entry: &mut Entry, error: &StatusError) {
    entry.code = error.code;
    entry.reason.clone_from(&error.reason);
    entry.message.clone_from(&error.message);
}
