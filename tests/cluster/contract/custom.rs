//! Custom resources with rules in CEL, which the double does not evaluate.

use anyhow::Context;
use kube::api::DynamicObject;

use crate::harness::{Cluster, Result};

pub async fn a_custom_resource_is_served_after_its_definition(cluster: &'static Cluster) -> Result {
    let namespace = cluster.namespace("custom").await?;
    cluster
        .apply(
            r"
            apiVersion: apiextensions.k8s.io/v1
            kind: CustomResourceDefinition
            metadata: {name: widgets.contract.test}
            spec:
              group: contract.test
              scope: Namespaced
              names: {kind: Widget, plural: widgets}
              versions:
              - name: v1
                served: true
                storage: true
                schema:
                  openAPIV3Schema:
                    type: object
                    properties:
                      size: {type: integer, x-kubernetes-validations: [{rule: self < 10, message: too big}]}
            ",
        )
        .await?;

    let widget = |size| format!("{{apiVersion: contract.test/v1, kind: Widget, metadata: {{name: w}}, size: {size}}}");
    let made: Vec<DynamicObject> = namespace.apply(&widget(9)).await?;

    assert_eq!(made[0].data["size"], 9);
    let refused = namespace.apply(&widget(10)).await.err().context("accepted")?;
    assert!(format!("{refused:#}").contains("too big"), "{refused:#}");
    Ok(())
}
