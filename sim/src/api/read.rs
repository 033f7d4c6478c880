//! GET and LIST, whole objects or their metadata only.
//!
//! What it may not know: tasks and time.
//! Invariant: a list names the version that a watch may start from without missing anything, and all its pages show
//! that version.

use serde_json::{Value, json};

use super::events;
use super::kinds::Kind;
use super::route::{Query, Target};
use super::selector::Selector;
use super::state::State;
use super::status::StatusError;
use super::store::{Key, Obj};
use crate::json::set;

/// Whether the client asked for whole objects or only their metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    Whole,
    Metadata,
}

impl View {
    /// From the `Accept` header.
    pub(crate) fn of(accept: &str) -> Self {
        if accept.contains("as=PartialObjectMetadata") { Self::Metadata } else { Self::Whole }
    }

    /// The stored object as this view of this API shows it.
    pub(crate) fn show(self, kind: &Kind, object: &Value) -> Value {
        match self {
            Self::Whole => events::shown(kind, object.clone()),
            Self::Metadata => json!({"kind": "PartialObjectMetadata",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": object.get("metadata").cloned().unwrap_or_default()}),
        }
    }
}

impl State {
    /// GET of one object.
    pub(crate) fn read(&self, target: &Target, view: View) -> Result<Value, StatusError> {
        self.lookup(target)
            .map(|object| view.show(&target.kind, &object))
            .ok_or_else(|| StatusError::not_found(&target.kind, target.name()))
    }

    /// The selected objects of a collection.
    pub(crate) fn select(&self, target: &Target, selector: &Selector) -> Vec<Obj> {
        self.store
            .list(&target.kind, target.namespace.as_deref())
            .filter(|(_, object)| selector.matches(object))
            .map(|(_, object)| object.clone())
            .collect()
    }

    /// LIST, in pages where `limit` asks for them.
    pub(crate) fn list(&self, target: &Target, query: &Query, view: View) -> Result<Value, StatusError> {
        let kind = &target.kind;
        let selector = selector(kind, query)?;
        let page = self.page_start(target, query)?;
        let limit = query.number("limit").filter(|limit| *limit > 0);
        let limit = limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        let objects = self.store.list_at(kind, target.namespace.as_deref(), page.version);
        let mut rest = objects
            .iter()
            .filter(|(key, _)| page.after.as_ref().is_none_or(|after| *key > after))
            .filter(|(_, object)| selector.matches(object));
        let mut last = None;
        let mut items = Vec::new();
        for (key, object) in rest.by_ref().take(limit) {
            items.push(listed(view.show(kind, object), view));
            last = Some(key);
        }
        let left = rest.count();
        let mut metadata = json!({"resourceVersion": page.version.to_string()});
        if let (Some(last), true) = (last, left > 0) {
            set(&mut metadata, &["continue"], token(page.version, last));
            if selector.is_empty() {
                set(&mut metadata, &["remainingItemCount"], left);
            }
        }
        let (api_version, list_kind) = match view {
            View::Whole => (kind.api_version(), kind.list_kind()),
            View::Metadata => ("meta.k8s.io/v1".to_owned(), "PartialObjectMetadataList".to_owned()),
        };
        Ok(json!({"kind": list_kind, "apiVersion": api_version, "metadata": metadata,
            "items": items}))
    }

    fn page_start(&self, target: &Target, query: &Query) -> Result<Page, StatusError> {
        let current = self.store.version();
        if let Some(wanted) = query.number("resourceVersion").filter(|v| *v > current) {
            return Err(StatusError::too_large_version(wanted, current));
        }
        let text = query.get("continue");
        if text.is_empty() {
            return Ok(Page { version: current, after: None });
        }
        let (version, after) =
            parse_token(text).ok_or_else(|| StatusError::bad_request("continue key is not valid"))?;
        if version < self.store.oldest(&target.kind) {
            return Err(StatusError::expired(
                "The provided continue parameter is too old to display a consistent list result. \
                 You can start a new list without the continue parameter.",
            ));
        }
        Ok(Page { version, after: Some(after) })
    }
}

struct Page {
    version: u64,
    after: Option<Key>,
}

/// The selection of a list or watch.
pub(crate) fn selector(kind: &Kind, query: &Query) -> Result<Selector, StatusError> {
    Selector::parse(kind, query.get("labelSelector"), query.get("fieldSelector"))
}

/// Items of typed lists carry neither kind nor apiVersion.
fn listed(mut item: Value, view: View) -> Value {
    if view == View::Whole {
        crate::json::remove(&mut item, &["kind"]);
        crate::json::remove(&mut item, &["apiVersion"]);
    }
    item
}

fn token(version: u64, last: &Key) -> String {
    format!("{version}.{}.{}", last.namespace, last.name)
}

fn parse_token(text: &str) -> Option<(u64, Key)> {
    let (version, rest) = text.split_once('.')?;
    let (namespace, name) = rest.split_once('.')?;
    Some((version.parse().ok()?, Key::new(namespace, name)))
}
