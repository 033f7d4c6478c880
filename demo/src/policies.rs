//! The policies of the demo, as a platform team would write them.

/// Production is resized in place; staging may be rolled out anew; one namespace only gets recommendations.
/// The windows are short so that requests can be lowered within the day: that takes a window that is fully covered.
pub const POLICIES: &str = r#"
- apiVersion: optipod.io/v1alpha1
  kind: OptimizationPolicy
  metadata: {name: production, namespace: optipod-system}
  spec:
    mode: Auto
    selector:
      namespaceSelector: {matchLabels: {environment: production}}
    metricsConfig: {rollingWindow: 6h, percentile: P90, safetyFactor: 1.2}
    resourceBounds:
      cpu: {min: 10m, max: "8"}
      memory: {min: 32Mi, max: 32Gi}
    updateStrategy: {allowInPlaceResize: true, cooldown: 30m}
    reconciliationInterval: 5m
- apiVersion: optipod.io/v1alpha1
  kind: OptimizationPolicy
  metadata: {name: staging, namespace: optipod-system}
  spec:
    mode: Auto
    selector:
      namespaceSelector: {matchLabels: {environment: staging}}
    metricsConfig: {rollingWindow: 3h, percentile: P90, safetyFactor: 1.2}
    resourceBounds:
      cpu: {min: 10m, max: "4"}
      memory: {min: 32Mi, max: 8Gi}
    updateStrategy: {allowInPlaceResize: false, allowRecreate: true, cooldown: 1h, maxDecreasePercent: 80}
    reconciliationInterval: 10m
- apiVersion: optipod.io/v1alpha1
  kind: OptimizationPolicy
  metadata: {name: payments-first-look, namespace: optipod-system}
  spec:
    mode: Recommend
    weight: 200
    selector:
      namespaces: {allow: [payments]}
    metricsConfig: {rollingWindow: 6h, percentile: P99, safetyFactor: 1.1}
    resourceBounds:
      cpu: {min: 10m, max: "8"}
      memory: {min: 32Mi, max: 32Gi}
    reconciliationInterval: 5m
"#;
