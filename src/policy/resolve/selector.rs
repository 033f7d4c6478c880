//! Checks which workloads a policy asks for: names of namespaces, labels, and that it asks for something.

use super::super::limits;
use super::super::types::WorkloadSelector;
use super::checker::Checker;
use super::syntax;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use std::collections::BTreeMap;

pub(super) fn check(check: &mut Checker, selector: &WorkloadSelector) {
    let lists = selector.namespaces.as_ref();
    let allows = lists.is_some_and(|lists| !lists.allow.is_empty());
    if selector.namespace_selector.is_none() && selector.workload_selector.is_none() && !allows {
        let message = "give at least one of namespaceSelector, workloadSelector or namespaces.allow";
        check.fail("spec.selector", message);
    }
    if let Some(lists) = lists {
        names(check, "spec.selector.namespaces.allow", &lists.allow);
        names(check, "spec.selector.namespaces.deny", &lists.deny);
    }
    if selector.kinds.is_empty() {
        check.fail("spec.selector.kinds", "give at least one of Deployment, StatefulSet and DaemonSet");
    }
    check.unique("spec.selector.kinds", &selector.kinds);
    if let Some(labels) = &selector.namespace_selector {
        label_selector(check, "spec.selector.namespaceSelector", labels);
    }
    if let Some(labels) = &selector.workload_selector {
        label_selector(check, "spec.selector.workloadSelector", labels);
    }
}

fn names(check: &mut Checker, field: &str, names: &[String]) {
    check.at_most(field, names.len(), limits::NAMESPACES);
    for (index, name) in names.iter().enumerate() {
        check.dns_label(&format!("{field}[{index}]"), name);
    }
    check.unique(field, names);
}

fn label_selector(check: &mut Checker, field: &str, selector: &LabelSelector) {
    let labels = selector.match_labels.as_ref();
    let field_of_labels = format!("{field}.matchLabels");
    check.at_most(&field_of_labels, labels.map_or(0, BTreeMap::len), limits::MATCH_LABELS);
    for (key, value) in labels.into_iter().flatten() {
        label_key(check, &field_of_labels, key);
        label_value(check, &field_of_labels, value);
    }
    let expressions = selector.match_expressions.as_deref().unwrap_or_default();
    check.at_most(&format!("{field}.matchExpressions"), expressions.len(), limits::MATCH_EXPRESSIONS);
    for (index, expression) in expressions.iter().enumerate() {
        label_expression(check, &format!("{field}.matchExpressions[{index}]"), expression);
    }
}

fn label_expression(check: &mut Checker, field: &str, expression: &LabelSelectorRequirement) {
    let values = expression.values.as_deref().unwrap_or_default();
    let operator = expression.operator.as_str();
    match (operator, values.is_empty()) {
        ("In" | "NotIn", true) => check.fail(field, format!("operator {operator} needs at least one value")),
        ("Exists" | "DoesNotExist", false) => check.fail(field, format!("operator {operator} takes no values")),
        ("In" | "NotIn" | "Exists" | "DoesNotExist", _) => {}
        _ => check.fail(
            &format!("{field}.operator"),
            format!("must be In, NotIn, Exists or DoesNotExist, got \"{operator}\""),
        ),
    }
    label_key(check, &format!("{field}.key"), &expression.key);
    check.at_most(&format!("{field}.values"), values.len(), limits::EXPRESSION_VALUES);
    for (index, value) in values.iter().enumerate() {
        label_value(check, &format!("{field}.values[{index}]"), value);
    }
}

fn label_key(check: &mut Checker, field: &str, key: &str) {
    if !syntax::is_label_key(key) {
        let rule = "a label key is [prefix/]name: a DNS subdomain, and at most 63 of A-Z a-z 0-9 _ . -";
        check.fail(field, format!("\"{key}\" is not a label key; {rule}"));
    }
}

fn label_value(check: &mut Checker, field: &str, value: &str) {
    if !syntax::is_label_value(value) {
        let rule = "at most 63 of A-Z a-z 0-9 _ . -, beginning and ending with a letter or digit";
        check.fail(field, format!("\"{value}\" is not a label value: {rule}"));
    }
}
