#!/usr/bin/env bash
# Builds what a node needs into tests/node/bin: kubelet and kube-proxy, containerd, and what its containers run. Ten minutes
# the first time on two cores.
set -euo pipefail
cd "$(dirname "$0")"

kubernetes=v1.37.2
containerd=v2.2.9
mkdir -p bin
version=k8s.io/component-base/version
go build -trimpath -buildvcs=false -o bin/node -ldflags "-s -w \
  -X $version.gitVersion=$kubernetes -X $version.gitMajor=1 -X $version.gitMinor=37" .
export CGO_ENABLED=0
go build -trimpath -buildvcs=false -o bin/load -ldflags "-s -w" ./load
if [ "$(cat bin/containerd.version 2>/dev/null)" != "$containerd" ]; then
  for program in containerd containerd-shim-runc-v2 ctr; do
    GOBIN="$PWD/bin" go install -trimpath "github.com/containerd/containerd/v2/cmd/$program@$containerd"
  done
  echo "$containerd" > bin/containerd.version
fi
