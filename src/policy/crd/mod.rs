//! The CustomResourceDefinition, made from the Rust types: what `optipod crd` prints and `crds/` holds.
//!
//! Invariant: the schema says what the types say. `kube` derives it; two things that suit a Rust type but not an API are
//! taken out here.

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a test that panics has failed
mod structural;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test that panics has failed
mod tests;

use super::types::OptimizationPolicy;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;

/// The CRD `optimizationpolicies.optipod.io`.
pub fn crd() -> CustomResourceDefinition {
    let mut crd = OptimizationPolicy::crd();
    let schemas = crd.spec.versions.iter_mut().filter_map(|version| version.schema.as_mut());
    for root in schemas.filter_map(|schema| schema.open_api_v3_schema.as_mut()) {
        // A null would count as a value in CEL's `has`. Unless a field is nullable, the API server drops nulls.
        visit(root, &mut |schema| schema.nullable = None);
        // What OptiPod did not write must not appear as if it had.
        if let Some(status) = root.properties.as_mut().and_then(|properties| properties.get_mut("status")) {
            visit(status, &mut |schema| schema.default = None);
        }
    }
    crd
}

/// The CRD as YAML: the same text each time.
pub fn yaml() -> String {
    let text = serde_yaml::to_string(&crd()).unwrap_or_default();
    format!("# Made by `optipod crd` from src/policy/types; a test fails when this file is stale.\n{text}")
}

/// Calls `change` on a schema and on every schema in it.
fn visit(schema: &mut JSONSchemaProps, change: &mut impl FnMut(&mut JSONSchemaProps)) {
    change(schema);
    for inner in schema.properties.iter_mut().flat_map(|properties| properties.values_mut()) {
        visit(inner, change);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        visit(items, change);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        visit(values, change);
    }
}
