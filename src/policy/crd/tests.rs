//! The schema against tables of policies, against the Rust types, and against the file in `crds/`.

use super::structural::{self, Problem};
use super::{crd, yaml};
use crate::policy::Policy;
use crate::policy::testing::{mutations, policies};
use crate::policy::types::OptimizationPolicy;
use kube_cel::{CompiledSchema, Validator, compile_schema};
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::LazyLock;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/crds/optimizationpolicies.optipod.io.yaml");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Accepted {
    base: Value,
    cases: Vec<AcceptedCase>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AcceptedCase {
    name: String,
    change: Value,
    #[serde(default)]
    change_as_is: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Refused {
    cases: Vec<RefusedCase>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RefusedCase {
    name: String,
    change: Value,
    field: String,
    expect_message: String,
    #[serde(default)]
    strict: bool,
}

fn accepted() -> Accepted {
    serde_yaml::from_str(include_str!("../../../tests/fixtures/accepted-policies.yaml")).unwrap()
}

fn refused() -> Vec<RefusedCase> {
    let table: Refused = serde_yaml::from_str(include_str!("../../../tests/fixtures/refused-policies.yaml")).unwrap();
    table.cases
}

/// JSON merge patch, RFC 7396; with `keep`, nulls are set and not removed.
fn merged(mut target: Value, change: &Value, keep: bool) -> Value {
    let Some(fields) = change.as_object() else { return change.clone() };
    if !target.is_object() {
        target = json!({});
    }
    for (name, value) in fields {
        if value.is_null() && !keep {
            target.as_object_mut().unwrap().remove(name);
        } else {
            target[name] = merged(target[name].take(), value, keep);
        }
    }
    target
}

/// The CRD's schema as an API server has it: with the parts that it adds to every kind.
static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    let schema = &crd().spec.versions[0].schema.clone().unwrap().open_api_v3_schema.unwrap();
    let mut schema = serde_json::to_value(schema).unwrap();
    schema["properties"]["apiVersion"] = json!({"type": "string"});
    schema["properties"]["kind"] = json!({"type": "string"});
    schema["properties"]["metadata"] = json!({"type": "object", "additionalProperties": {}});
    schema
});

static RULES: LazyLock<CompiledSchema> = LazyLock::new(|| compile_schema(&SCHEMA));

/// The answer of an API server: what the schema has against an object, else what the rules have against it.
fn admit(object: &Value) -> Result<Value, Vec<Problem>> {
    let mut object = object.clone();
    structural::default(&SCHEMA, &mut object);
    let problems = structural::validate(&SCHEMA, "", &object);
    if !problems.is_empty() {
        return Err(problems);
    }
    match Validator::new().validate_compiled(&RULES, &object, None) {
        Ok(()) => Ok(object),
        Err(errors) => Err(errors.iter().map(|error| (error.field_path.clone(), error.message.clone())).collect()),
    }
}

#[test]
fn every_rule_compiles() {
    assert!(!RULES.has_errors(), "{:?}", RULES.compilation_errors());
}

#[test]
fn policies_of_the_accepted_table_are_accepted() {
    let Accepted { base, cases } = accepted();
    for case in cases {
        let object = merged(base.clone(), &case.change, case.change_as_is);
        let admitted = admit(&object).unwrap_or_else(|problems| panic!("{}: {problems:?}", case.name));
        let policy: OptimizationPolicy = serde_json::from_value(admitted).unwrap();
        Policy::resolve(&policy).unwrap_or_else(|errors| panic!("{}: {errors:?}", case.name));
    }
}

#[test]
fn policies_of_the_refused_table_are_refused_with_the_field_and_the_reason() {
    let base = accepted().base;
    for case in refused() {
        let problems = admit(&merged(base.clone(), &case.change, false)).expect_err(&case.name);
        let [(field, message)] = problems.as_slice() else {
            panic!("{}: one thing is wrong, not {problems:?}", case.name)
        };
        assert_eq!(*field, case.field, "{}", case.name);
        assert!(message.contains(&case.expect_message), "{}: {message}", case.name);
        assert_eq!(message == "unknown field", case.strict, "{}", case.name);
    }
}

#[test]
fn the_controller_refuses_what_the_api_server_refuses_and_names_the_same_field() {
    let base = accepted().base;
    let mut checked = 0;
    for case in refused().into_iter().filter(|case| !case.strict) {
        let object = merged(base.clone(), &case.change, false);
        // What does not even deserialise never reaches the controller's checks.
        let Ok(policy) = serde_json::from_value::<OptimizationPolicy>(object) else { continue };
        let errors = Policy::resolve(&policy).expect_err(&case.name);
        assert!(errors.iter().any(|error| error.field == case.field), "{}: {errors:?}", case.name);
        checked += 1;
    }
    assert!(checked > 50, "only {checked} cases reached the controller's checks");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    // Feature: k8s-workload-rightsizing, Property 15: Policy validation
    #[test]
    fn the_api_server_and_the_controller_agree_on_which_policies_are_valid(
        policy in policies(),
        mutation in mutations(),
        seed in 0usize..100,
    ) {
        prop_assert!(admit(&serde_json::to_value(&policy).unwrap()).is_ok());
        let mut broken = policy;
        mutation.1(&mut broken.spec, seed);
        let problems = admit(&serde_json::to_value(&broken).unwrap()).unwrap_err();
        prop_assert!(problems.iter().any(|(field, _)| field == mutation.0), "{}: {:?}", mutation.0, problems);
    }
}

#[test]
fn defaults_of_the_schema_are_those_of_the_types() {
    let base = accepted().base;
    let by_schema = admit(&base).unwrap();
    let by_types: OptimizationPolicy = serde_json::from_value(base).unwrap();
    assert_eq!(by_schema["spec"], serde_json::to_value(by_types).unwrap()["spec"]);
}

#[test]
fn defaults_are_the_documented_ones() {
    let admitted = admit(&accepted().base).unwrap();
    let spec = &admitted["spec"];
    assert_eq!((&spec["weight"], spec.get("reconciliationInterval")), (&json!(100), None));
    assert_eq!(spec["selector"]["kinds"], json!(["Deployment", "StatefulSet", "DaemonSet"]));
    let metrics = json!({
        "rollingWindow": "24h", "percentile": "P90", "safetyFactor": 1.2, "memoryFloor": "Peak", "minSamples": 100,
    });
    assert_eq!(spec["metricsConfig"], metrics);
    let strategy = json!({
        "allowInPlaceResize": true, "allowRecreate": false, "updateRequestsOnly": true, "direction": "Both",
        "minChangePercent": 10, "maxDecreasePercent": 50, "maxUpdatesPerCycle": 10, "cooldown": "30m", "onDelete": "Keep",
    });
    assert_eq!(spec["updateStrategy"], strategy);
}

#[test]
fn a_policy_of_the_first_schema_is_still_taken_and_its_status_kept() {
    let first: Value =
        serde_yaml::from_str(include_str!("../../../tests/fixtures/releases/first-schema/policies.yaml")).unwrap();
    let admitted = admit(&first).unwrap();
    assert_eq!(admitted["status"], first["status"], "no default is added to a status");
    let typed: OptimizationPolicy = serde_json::from_value(admitted).unwrap();
    assert_eq!(Policy::resolve(&typed).map(|policy| policy.id.to_string()), Ok("shop/first".to_owned()));
    assert_eq!(serde_json::to_value(&typed).unwrap()["status"], first["status"]);
}

#[test]
fn every_field_is_described_for_kubectl_explain() {
    fn check(schema: &Value, path: &str) {
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            assert!(field["description"].is_string(), "{path}.{name} has no description");
            check(field, &format!("{path}.{name}"));
        }
        if schema["items"].is_object() {
            check(&schema["items"], &format!("{path}[]"));
        }
    }
    check(&SCHEMA["properties"]["spec"], "spec");
    check(&SCHEMA["properties"]["status"], "status");
}

#[test]
fn an_object_with_every_field_has_exactly_the_fields_of_the_schema() {
    let Accepted { base, cases } = accepted();
    let every = cases.iter().find(|case| case.name == "every field").unwrap();
    let mut object = merged(base, &every.change, false);
    object["status"] = every_status_field();
    admit(&object).unwrap();
    let policy: OptimizationPolicy = serde_json::from_value(object).unwrap();
    let value = serde_json::to_value(&policy).unwrap();
    for part in ["spec", "status"] {
        let (mut known, mut written) = (BTreeSet::new(), BTreeSet::new());
        paths_of_schema(&SCHEMA["properties"][part], part, &mut known);
        paths_of_value(&SCHEMA["properties"][part], &value[part], part, &mut written);
        assert_eq!(known, written);
    }
}

fn every_status_field() -> Value {
    let requests = json!([{"container": "app", "cpu": "100m", "memory": "128Mi"}]);
    json!({
        "observedGeneration": 3,
        "conditions": [{
            "type": "Ready", "status": "True", "reason": "PolicyValid", "message": "", "observedGeneration": 3,
            "lastTransitionTime": "2026-11-01T10:00:00Z",
        }],
        "summary": {"workloads": 1, "updated": 1, "skipped": 0, "pending": 0, "omitted": 0},
        "workloads": [{
            "kind": "Deployment", "namespace": "default", "name": "web", "uid": "6f0e", "status": "Applied", "method": "Resize",
            "lastRecommendation": "2026-11-01T10:00:00Z", "lastApplied": "2026-11-01T10:00:00Z",
            "reason": "Cooldown", "message": "until 10:30",
            "recommendations": [{
                "container": "app", "cpu": "100m", "memory": "128Mi", "explanation": "P90 × 1.2",
                "current": {"cpu": "1", "memory": "1Gi"},
            }],
            "previous": requests, "target": requests,
            "raised": [{"container": "c", "cpu": "2026-11-24T10:00:00Z", "memory": "2026-11-24T10:00:00Z"}],
            "oomKills": [{"container": "app", "at": "2026-11-24T10:00:00Z", "memory": "256Mi"}],
            "cause": "Recommend",
            "watch": {
                "since": "2026-11-24T10:00:00Z", "settled": true, "template": "0123456789abcdef", "unready": 1,
                "containers": [{"container": "app", "crashing": 1, "killed": 1, "restarts": 2}],
            },
            "rolledBack": {
                "at": "2026-11-24T10:00:00Z", "reason": "OOMKilled", "container": "app", "pod": "web-1",
                "size": requests, "restored": requests,
            },
        }],
        "circuit": {"openedAt": "2026-11-24T10:00:00Z", "generation": 3, "rollbacks": 3, "changed": 9},
    })
}

fn paths_of_schema(schema: &Value, path: &str, found: &mut BTreeSet<String>) {
    found.insert(path.to_owned());
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        paths_of_schema(field, &format!("{path}.{name}"), found);
    }
    if schema["items"].is_object() {
        paths_of_schema(&schema["items"], &format!("{path}[]"), found);
    }
}

/// Keys of a map, as `matchLabels` is, are not fields.
fn paths_of_value(schema: &Value, value: &Value, path: &str, found: &mut BTreeSet<String>) {
    found.insert(path.to_owned());
    for (name, inner) in value.as_object().into_iter().flatten() {
        if schema["additionalProperties"].is_null() {
            paths_of_value(&schema["properties"][name], inner, &format!("{path}.{name}"), found);
        }
    }
    for inner in value.as_array().into_iter().flatten() {
        paths_of_value(&schema["items"], inner, &format!("{path}[]"), found);
    }
}

#[test]
fn whatever_a_rule_can_reach_has_a_size_limit() {
    // Without them the API server estimates the rules' cost without bound, and refuses the CRD.
    fn check(schema: &Value, path: &str, in_list: bool) {
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            check(field, &format!("{path}.{name}"), in_list);
        }
        if schema["type"] == "array" {
            assert!(schema["maxItems"].is_u64(), "{path} has no maxItems");
            assert!(schema["x-kubernetes-list-type"].is_string(), "{path} has no list type");
            check(&schema["items"], &format!("{path}[]"), true);
        }
        if schema["additionalProperties"].is_object() {
            assert!(schema["maxProperties"].is_u64(), "{path} has no maxProperties");
            check(&schema["additionalProperties"], &format!("{path}.*"), true);
        }
        if in_list && schema["type"] == "string" && schema["enum"].is_null() {
            assert!(schema["maxLength"].is_u64(), "{path} has no maxLength");
        }
    }
    check(&SCHEMA["properties"]["spec"], "spec", false);
}

#[test]
fn nothing_is_nullable_and_status_has_no_defaults() {
    let text = SCHEMA.to_string();
    assert!(!text.contains("\"nullable\""));
    assert!(!SCHEMA["properties"]["status"].to_string().contains("\"default\""));
}

#[test]
fn times_are_date_times_and_workloads_an_atomic_list_of_500() {
    let workloads = &SCHEMA["properties"]["status"]["properties"]["workloads"];
    assert_eq!((&workloads["maxItems"], &workloads["x-kubernetes-list-type"]), (&json!(500), &json!("atomic")));
    for time in ["lastApplied", "lastRecommendation"] {
        assert_eq!(workloads["items"]["properties"][time]["format"], "date-time");
    }
}

#[test]
fn kubectl_gets_short_names_columns_and_a_field_selector() {
    let spec = crd().spec;
    assert_eq!(spec.names.short_names, Some(vec!["op".to_owned()]));
    assert_eq!(spec.names.categories, Some(vec!["optipod".to_owned()]));
    let version = &spec.versions[0];
    assert_eq!(version.selectable_fields.as_ref().unwrap()[0].json_path, ".spec.mode");
    let columns: Vec<&str> =
        version.additional_printer_columns.as_ref().unwrap().iter().map(|column| column.name.as_str()).collect();
    assert_eq!(columns, ["Mode", "Ready", "Workloads", "Updated", "Age"]);
}

#[test]
fn the_file_in_crds_is_what_the_types_say() {
    if std::env::var_os("UPDATE_CRD").is_some() {
        std::fs::write(FILE, yaml()).unwrap();
    }
    let file = std::fs::read_to_string(FILE).unwrap_or_default();
    assert!(file == yaml(), "{FILE} is stale; run: UPDATE_CRD=1 cargo test --lib policy::crd");
}

#[test]
fn the_yaml_reads_back_as_the_same_crd() {
    let read: k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition =
        serde_yaml::from_str(&yaml()).unwrap();
    assert_eq!(read, crd());
}
