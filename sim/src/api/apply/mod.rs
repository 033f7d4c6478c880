//! Server-side apply: who owns which field.
//!
//! After `sigs.k8s.io/structured-merge-diff/v6/merge`: an apply owns what it lists, a changed value
//! takes the field from all others, and a field that its last owner no longer lists is removed.
//! What it may not know: HTTP, validation, storage.
//! Invariant: `managedFields` of the answer describe exactly the answered object.

pub(crate) mod fieldset;
pub(crate) mod schema;
pub(crate) mod values;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use self::fieldset::FieldSet;
use self::schema::Rules;
use super::kinds::Kind;
use super::status::StatusError;
use crate::json::{At as _, list_at, set, str_at};

/// Who writes, as `managedFields` tells managers apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Manager {
    pub(crate) name: String,
    /// `Apply` or `Update`.
    pub(crate) operation: &'static str,
    pub(crate) subresource: String,
    pub(crate) api_version: String,
}

/// What one manager owns, and since when.
#[derive(Clone, Debug, PartialEq)]
struct Owned {
    set: FieldSet,
    time: String,
}

type Managers = BTreeMap<Manager, Owned>;

/// Applies `config` to `live` for `manager`; the result carries its `managedFields`.
pub(crate) fn apply(
    kind: &Kind,
    live: &Value,
    config: &Value,
    manager: &Manager,
    force: bool,
    now: &str,
) -> Result<Value, StatusError> {
    let rules = Rules::of(kind);
    let mut managers = read(live);
    let (live_fields, config_fields) = (values::ownable(live), values::ownable(config));
    let merged = values::merge(rules, &live_fields, &config_fields);
    let last = managers.remove(manager);
    let set = values::field_set(rules, &config_fields);
    insert_owned(&mut managers, manager, set, last.as_ref(), now);
    let pruned = prune(rules, &merged, &managers, last.as_ref());
    take_over(rules, &live_fields, &pruned, &mut managers, manager, force)?;
    Ok(finish(live, config, pruned, &managers))
}

/// Records a plain write: `manager` owns what it changed, and what it removed nobody owns.
pub(crate) fn record_update(kind: &Kind, old: &Value, new: &mut Value, manager: &Manager, now: &str) {
    let rules = Rules::of(kind);
    let mut managers = read(old);
    let (before, after) = (values::ownable(old), values::ownable(new));
    let difference = values::compare(rules, &before, &after);
    let last = managers.remove(manager);
    let kept = last.as_ref().map(|owned| owned.set.clone()).unwrap_or_default();
    let set = kept.union(&difference.changed).difference(&difference.removed);
    // Plain writes take what they change, so this cannot conflict.
    let _ = take_over(rules, &before, &after, &mut managers, manager, true);
    insert_owned(&mut managers, manager, set, last.as_ref(), now);
    write(new, &managers);
}

fn insert_owned(managers: &mut Managers, manager: &Manager, set: FieldSet, last: Option<&Owned>, now: &str) {
    let time = match last {
        Some(last) if last.set == set => last.time.clone(),
        _ => now.to_owned(),
    };
    // An applier stays listed with an empty set only until its next write; nobody misses it.
    if !set.is_empty() {
        managers.insert(manager.clone(), Owned { set, time });
    }
}

/// Takes changed fields from all other managers, or says who holds them.
fn take_over(
    rules: Rules<'_>,
    old: &Value,
    new: &Value,
    managers: &mut Managers,
    manager: &Manager,
    force: bool,
) -> Result<(), StatusError> {
    let difference = values::compare(rules, old, new);
    let conflicts: Vec<(Manager, FieldSet)> = managers
        .iter()
        .filter(|(other, _)| *other != manager)
        .map(|(other, owned)| {
            let shared = owned.set.intersection(&difference.changed);
            (other.clone(), shared)
        })
        .filter(|(_, shared)| !shared.is_empty())
        .collect();
    if !force && !conflicts.is_empty() {
        return Err(conflict(&conflicts));
    }
    let lost = difference.changed.union(&difference.removed);
    for (other, owned) in managers.iter_mut() {
        if other != manager {
            owned.set = owned.set.difference(&lost);
        }
    }
    managers.retain(|_, owned| !owned.set.is_empty());
    Ok(())
}

/// Removes what the last apply of this manager listed and nobody lists now.
fn prune(rules: Rules<'_>, merged: &Value, managers: &Managers, last: Option<&Owned>) -> Value {
    let Some(last) = last else {
        return merged.clone();
    };
    let owned = managers.values().fold(FieldSet::default(), |all, owned| all.union(&owned.set)).with_named_parents();
    let gone = without_needed_parents(&last.set.with_named_parents().difference(&owned), &owned);
    values::remove(rules, merged, &gone)
}

/// A removed list item stays where somebody still owns a field inside it.
fn without_needed_parents(gone: &FieldSet, owned: &FieldSet) -> FieldSet {
    let children = gone
        .children
        .iter()
        .map(|(element, node)| {
            let kept = match owned.child(element) {
                Some(owners) => {
                    let mut node = without_needed_parents(node, owners);
                    node.member = node.member && owners.is_empty();
                    node
                }
                None => node.clone(),
            };
            (element.clone(), kept)
        })
        .filter(|(_, node)| !node.is_empty())
        .collect();
    FieldSet { member: gone.member, children }
}

/// Puts back what no manager owns (names, versions, uid) and writes `managedFields`.
fn finish(live: &Value, config: &Value, mut object: Value, managers: &Managers) -> Value {
    for field in ["apiVersion", "kind"] {
        crate::json::carry(config, &mut object, &[field]);
    }
    for field in [
        "name",
        "generateName",
        "namespace",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "uid",
        "generation",
        "resourceVersion",
    ] {
        crate::json::carry(live, &mut object, &["metadata", field]);
        if let Some(given) = config.at(&format!("/metadata/{field}")) {
            set(&mut object, &["metadata", field], given.clone());
        }
    }
    write(&mut object, managers);
    object
}

fn read(object: &Value) -> Managers {
    list_at(object, "/metadata/managedFields")
        .iter()
        .map(|entry| {
            let operation = match str_at(entry, "/operation") {
                "Apply" => "Apply",
                _ => "Update",
            };
            let manager = Manager {
                name: str_at(entry, "/manager").to_owned(),
                operation,
                subresource: str_at(entry, "/subresource").to_owned(),
                api_version: str_at(entry, "/apiVersion").to_owned(),
            };
            let owned = Owned {
                set: FieldSet::from_json(entry.get("fieldsV1").unwrap_or(&Value::Null)),
                time: str_at(entry, "/time").to_owned(),
            };
            (manager, owned)
        })
        .collect()
}

fn write(object: &mut Value, managers: &Managers) {
    // Appliers first, then by time and name: the real server's order.
    let mut entries: Vec<(&Manager, &Owned)> = managers.iter().collect();
    entries.sort_by_key(|(m, owned)| (m.operation, owned.time.clone(), m.name.clone()));
    let entries: Vec<Value> = entries
        .into_iter()
        .map(|(manager, owned)| {
            let mut entry = json!({
                "manager": manager.name, "operation": manager.operation,
                "apiVersion": manager.api_version, "time": owned.time,
                "fieldsType": "FieldsV1", "fieldsV1": owned.set.to_json(),
            });
            if !manager.subresource.is_empty() {
                set(&mut entry, &["subresource"], manager.subresource.as_str());
            }
            entry
        })
        .collect();
    set(object, &["metadata", "managedFields"], entries);
}

fn conflict(conflicts: &[(Manager, FieldSet)]) -> StatusError {
    let mut causes = Vec::new();
    let mut listed = Vec::new();
    for (manager, shared) in conflicts {
        let shown = shown(manager);
        listed.push(format!("conflicts with {shown}:"));
        for path in shared.paths() {
            causes.push(json!({"reason": "FieldManagerConflict",
                "message": format!("conflict with {shown}"), "field": path}));
            listed.push(format!("- {path}"));
        }
    }
    let message = match (causes.as_slice(), conflicts) {
        ([only], [(manager, _)]) => {
            format!("Apply failed with 1 conflict: conflict with {}: {}", shown(manager), str_at(only, "/field"))
        }
        _ => format!("Apply failed with {} conflicts: {}", causes.len(), listed.join("\n")),
    };
    StatusError { details: json!({ "causes": causes }), ..StatusError::new(409, "Conflict", message) }
}

fn shown(manager: &Manager) -> String {
    let mut shown = format!("\"{}\"", manager.name);
    if !manager.subresource.is_empty() {
        shown = format!("{shown} with subresource \"{}\"", manager.subresource);
    }
    if manager.operation == "Update" {
        shown = format!("{shown} using {}", manager.api_version);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kinds::Registry;
    use proptest::prelude::*;

    fn by(name: &str) -> Manager {
        Manager { name: name.to_owned(), operation: "Apply", subresource: String::new(), api_version: "v1".to_owned() }
    }

    fn data(entries: &BTreeMap<String, String>) -> Value {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": entries})
    }

    fn entries() -> impl Strategy<Value = BTreeMap<String, String>> {
        proptest::collection::btree_map("[a-e]", "[xyz]", 1..5)
    }

    proptest! {
        /// Oracle: with one applier alone, the object holds exactly what it last applied.
        #[test]
        fn a_sole_applier_gets_exactly_what_it_lists(
            first in entries(), second in entries(),
        ) {
            let kind = Registry::new().find("", "v1", "configmaps").unwrap();
            let once = apply(&kind, &json!({}), &data(&first), &by("a"), false, "t1").unwrap();
            let twice = apply(&kind, &once, &data(&second), &by("a"), false, "t2").unwrap();
            prop_assert_eq!(&twice["data"], &json!(second));
            let again = apply(&kind, &twice, &data(&second), &by("a"), false, "t3").unwrap();
            prop_assert_eq!(again, twice);
        }

        /// Oracle: two appliers conflict exactly where they give the same key another value.
        #[test]
        fn two_appliers_conflict_exactly_where_they_disagree(
            ours in entries(), theirs in entries(),
        ) {
            let kind = Registry::new().find("", "v1", "configmaps").unwrap();
            let live = apply(&kind, &json!({}), &data(&theirs), &by("b"), false, "t1").unwrap();
            let disputed = ours.iter().filter(|(k, v)| theirs.get(*k).is_some_and(|t| t != *v)).count();
            match apply(&kind, &live, &data(&ours), &by("a"), false, "t2") {
                Ok(merged) => {
                    prop_assert_eq!(disputed, 0);
                    let mut union = theirs.clone();
                    union.extend(ours);
                    prop_assert_eq!(&merged["data"], &json!(union));
                }
                Err(refused) => {
                    let causes = list_at(&refused.details, "/causes").len();
                    prop_assert_eq!((refused.code, causes), (409, disputed));
                }
            }
        }
    }
}
