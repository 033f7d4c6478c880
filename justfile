# `just` lists the recipes.

_default:
    @just --list

# Format, lint, licences
check:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
    cargo deny check bans licenses sources

# Every test; those on a real control plane run once `just control-plane` has built it
test:
    cargo test --workspace

# Every planted bug, and that the test which is there for it catches it
plants *NUMBERS:
    .ci/plants {{NUMBERS}}

# The test cluster: etcd, API server, controller-manager, scheduler, kwok and metrics-server in one binary (needs Go)
control-plane:
    tests/controlplane/build.sh

# The long tests, an hour at most: schedules of faults; image, built twice; skew, of versions; and those of `store-figures`
soak STAGE:
    .ci/soak {{STAGE}}

# Every figure of storage/README.md in one run, some three hours with nothing beside; torture at ten times CI's counts
store-figures:
    for stage in benches memory-and-restart disk-30-days kills eio cuts full-disk damages fuzz; do .ci/soak $stage || exit; done

# A day on a simulated cluster
demo *ARGS:
    cargo run --release -p optipod-demo -- {{ARGS}}

# The percentile core against its peers
bench *ARGS:
    cargo bench -p optipod -- {{ARGS}}

# The same and VPA's histogram (needs Go), as ratios against the bars
bench-summary *ARGS:
    benches/summary.py {{ARGS}}

# Write crds/ and the chart's copy anew after a change of the policy's types
crd:
    cargo run --quiet --bin optipod -- crd > crds/optimizationpolicies.optipod.io.yaml
    cp crds/optimizationpolicies.optipod.io.yaml deploy/chart/files/crd.yaml

# Write docs/reference anew after a change of the CRD, the .proto files or the settings (needs PyYAML)
reference:
    .ci/reference

# The chart, the overlays and their rights, against the API of every Kubernetes version that is supported
deploy:
    .ci/deploy

# Write the overlays in deploy/kustomize anew after a change of the chart
kustomize:
    deploy/kustomize/render

# What CI runs
ci:
    .ci/run
