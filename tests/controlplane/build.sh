#!/usr/bin/env bash
# Builds the test control plane, tests/controlplane/bin/controlplane, when it is
# not there yet for these sources. About 6 minutes the first time on two cores,
# seconds with a warm Go build cache, nothing when the binary is current.
#
#   OPTIPOD_CONTROLPLANE_BIN   use this binary as it is and build nothing
#   XDG_CACHE_HOME             where built binaries are kept across clones
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

kubernetes_version=v1.37.2
target=bin/controlplane
stamp=bin/controlplane.sources

if [[ -n "${OPTIPOD_CONTROLPLANE_BIN:-}" ]]; then
    [[ -x "$OPTIPOD_CONTROLPLANE_BIN" ]] || {
        echo "control plane: OPTIPOD_CONTROLPLANE_BIN=$OPTIPOD_CONTROLPLANE_BIN is not an executable file" >&2
        exit 1
    }
    echo "control plane: OPTIPOD_CONTROLPLANE_BIN is set, nothing to build"
    exit 0
fi

# The machine's architecture is in the hash, so that a shared home folder is safe.
hash=$({ uname -sm; sha256sum go.mod go.sum main.go build.sh; } | sha256sum | cut -c1-16)
cached=${XDG_CACHE_HOME:-$HOME/.cache}/optipod/controlplane/$hash/controlplane

mkdir -p bin
if [[ -x $target && -f $stamp && $(<"$stamp") == "$hash" ]]; then
    echo "control plane: $target is current ($hash)"
    exit 0
fi

# Linked or copied under another name first, then renamed: an interrupted run
# leaves no half binary, and a running cluster keeps the file it has open.
install_as() {
    ln -f "$1" "$2.new" 2>/dev/null || cp "$1" "$2.new"
    mv -f "$2.new" "$2"
}

if [[ ! -x $cached ]]; then
    command -v go >/dev/null || {
        echo "control plane: needs Go (go.mod names the version) and found none in PATH" >&2
        exit 1
    }
    echo "control plane: building $hash, about 6 minutes when nothing is cached"
    mkdir -p "$(dirname "$cached")"
    # Without the versions the server calls itself v0.0.0-master, which breaks
    # version checks in clients. Changing -trimpath empties Go's build cache.
    version=k8s.io/component-base/version
    go build -trimpath -buildvcs=false -o "$cached.building.$$" -ldflags "-s -w \
        -X $version.gitVersion=$kubernetes_version -X $version.gitMajor=1 -X $version.gitMinor=37" .
    mv -f "$cached.building.$$" "$cached"
fi

install_as "$cached" "$target"
echo "$hash" >"$stamp"
echo "control plane: $target is ready ($hash)"
