//! What the Rust types cannot say of a policy: ranges of texts, label syntax, and the rules between fields, as CEL.
//!
//! Every list, map and text within a list has a size limit: the API server estimates what a rule costs at worst, and
//! refuses the CRD without them. The same checks in Rust are in `policy/resolve.rs`.

use super::super::limits::{self, Limits};
use kube::core::{Message, Rule};
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

/// A DNS label, as names of namespaces, containers and providers are.
const DNS_LABEL: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
/// See [`super::super::duration`].
const DURATION: &str = "^[1-9][0-9]{0,5}(s|m|h|d)$";
/// Six digits and a unit, and one to spare.
const DURATION_LENGTH: usize = 8;

/// A rule with a fixed message.
fn rule(rule: &str, message: &str) -> Rule {
    Rule::new(rule).message(message)
}

/// A rule whose message is itself CEL.
fn telling(rule: &str, message: &str) -> Rule {
    Rule::new(rule).message(Message::Expression(message.to_owned()))
}

pub(super) fn auto_needs_a_method() -> Value {
    let rule = rule(
        "self.mode != 'Auto' || self.updateStrategy.allowInPlaceResize || self.updateStrategy.allowRecreate",
        "mode Auto needs updateStrategy.allowInPlaceResize or allowRecreate",
    );
    json!([rule.field_path(".updateStrategy")])
}

pub(super) fn selector_says_something() -> Value {
    json!([rule(
        "has(self.namespaceSelector) || has(self.workloadSelector) \
         || (has(self.namespaces) && has(self.namespaces.allow) && size(self.namespaces.allow) > 0)",
        "give at least one of namespaceSelector, workloadSelector or namespaces.allow",
    )])
}

/// Durations that do not parse are named by their own pattern.
pub(super) fn span_within_window() -> Value {
    let garbage = |field: &str| format!("!{field}.matches('{DURATION}')");
    let seconds = |field: &str| {
        format!(
            "({field}.endsWith('d') ? int({field}.substring(0, size({field})-1))*86400 : duration({field}).getSeconds())"
        )
    };
    let [span, window] = ["self.minSpan", "self.rollingWindow"];
    let text =
        format!("!has({span}) || {} || {} || {} <= {}", garbage(span), garbage(window), seconds(span), seconds(window));
    json!([rule(&text, "minSpan must not exceed rollingWindow").field_path(".minSpan")])
}

pub(super) fn excluded_takes_no_settings() -> Value {
    json!([rule(
        "!has(self.exclude) || !self.exclude \
         || (!has(self.percentile) && !has(self.safetyFactor) && !has(self.resourceBounds))",
        "an excluded container takes no other setting",
    )])
}

/// Quantities that do not parse are named by their own rule.
pub(super) fn min_up_to_max() -> Value {
    let rule = telling(
        "!isQuantity(string(self.min)) || !isQuantity(string(self.max)) \
         || quantity(string(self.min)).compareTo(quantity(string(self.max))) <= 0",
        r#"'min "' + string(self.min) + '" must not exceed max "' + string(self.max) + '"'"#,
    );
    json!([rule.field_path(".min")])
}

pub(super) fn cpu_quantity(_: &mut SchemaGenerator) -> Schema {
    quantity(&limits::LEAST_CPU.to_string(), r#""100m" or "2""#)
}

pub(super) fn memory_quantity(_: &mut SchemaGenerator) -> Schema {
    quantity(&limits::LEAST_MEMORY.to_string(), r#""128Mi""#)
}

fn quantity(least: &str, examples: &str) -> Schema {
    let rule = telling(
        &format!("isQuantity(string(self)) && quantity(string(self)).compareTo(quantity('{least}')) >= 0"),
        &format!(r#"'must be a quantity of at least {least}, such as {examples}, got "' + string(self) + '"'"#),
    );
    json_schema!({
        "x-kubernetes-int-or-string": true,
        "maxLength": limits::QUANTITY_LENGTH,
        "x-kubernetes-validations": [rule],
    })
}

pub(super) fn window(_: &mut SchemaGenerator) -> Schema {
    duration_within(limits::WINDOW)
}

pub(super) fn cooldown(_: &mut SchemaGenerator) -> Schema {
    duration_within(limits::COOLDOWN)
}

pub(super) fn interval(_: &mut SchemaGenerator) -> Schema {
    duration_within(limits::INTERVAL)
}

/// How long it may be is a rule between two fields, [`span_within_window`].
pub(super) fn span(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "maxLength": DURATION_LENGTH, "pattern": DURATION })
}

/// CEL's durations know no days, hence the two cases. Garbage is named by the pattern alone.
fn duration_within(limits: Limits<&str>) -> Schema {
    let days = limits.durations().most.as_secs() / 86_400;
    let most = if limits.most.ends_with('d') { format!("{}h", days * 24) } else { limits.most.to_owned() };
    let rule = telling(
        &format!(
            "!self.matches('{DURATION}') || (self.endsWith('d') ? int(self.substring(0, size(self)-1)) <= {days} \
             : duration(self) >= duration('{}') && duration(self) <= duration('{most}'))",
            limits.least
        ),
        &format!(r#"'must be {limits}, got "' + self + '"'"#),
    );
    json_schema!({
        "type": "string",
        "maxLength": DURATION_LENGTH,
        "pattern": DURATION,
        "x-kubernetes-validations": [rule],
    })
}

pub(super) fn dns_label(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "minLength": 1,
        "maxLength": limits::DNS_LABEL_LENGTH,
        "pattern": DNS_LABEL,
    })
}

pub(super) fn namespaces(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": limits::NAMESPACES,
        "x-kubernetes-list-type": "set",
        "items": { "type": "string", "maxLength": limits::DNS_LABEL_LENGTH, "pattern": DNS_LABEL },
    })
}

/// Kubernetes' own selector, with the checks that the API server makes of its built-in kinds.
pub(super) fn label_selector(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "x-kubernetes-map-type": "atomic",
        "properties": {
            "matchLabels": {
                "description": "Labels that must all be there, with these values.",
                "type": "object",
                "maxProperties": limits::MATCH_LABELS,
                "additionalProperties": { "type": "string", "maxLength": limits::LABEL_VALUE_LENGTH },
                "x-kubernetes-validations": [
                    rule(
                        "self.all(k, !format.qualifiedName().validate(k).hasValue())",
                        "every key must be a label key: [prefix/]name",
                    ),
                    rule(
                        "self.all(k, !format.labelValue().validate(self[k]).hasValue())",
                        "every value must be a label value: at most 63 of A-Z a-z 0-9 _ . -",
                    ),
                ],
            },
            "matchExpressions": {
                "description": "Expressions that must all hold.",
                "type": "array",
                "maxItems": limits::MATCH_EXPRESSIONS,
                "x-kubernetes-list-type": "atomic",
                "items": label_expression(),
            },
        },
    })
}

fn label_expression() -> Value {
    let values = telling(
        "self.operator in ['In','NotIn'] ? has(self.values) && size(self.values) > 0 \
         : !has(self.values) || size(self.values) == 0",
        "'operator ' + self.operator \
         + (self.operator in ['In','NotIn'] ? ' needs at least one value' : ' takes no values')",
    );
    let key = telling(
        "!format.qualifiedName().validate(self).hasValue()",
        r#"'not a label key ([prefix/]name): "' + self + '"'"#,
    );
    let value = rule("!format.labelValue().validate(self).hasValue()", "not a label value");
    json!({
        "type": "object",
        "required": ["key", "operator"],
        "x-kubernetes-validations": [values],
        "properties": {
            "key": {
                "description": "The label's key.",
                "type": "string",
                "minLength": 1,
                "maxLength": limits::LABEL_KEY_LENGTH,
                "x-kubernetes-validations": [key],
            },
            "operator": {
                "description": "NotIn also holds where the label is absent.",
                "type": "string",
                "enum": ["In", "NotIn", "Exists", "DoesNotExist"],
            },
            "values": {
                "description": "For In and NotIn.",
                "type": "array",
                "maxItems": limits::EXPRESSION_VALUES,
                "x-kubernetes-list-type": "atomic",
                "items": {
                    "type": "string",
                    "maxLength": limits::LABEL_VALUE_LENGTH,
                    "x-kubernetes-validations": [value],
                },
            },
        },
    })
}
