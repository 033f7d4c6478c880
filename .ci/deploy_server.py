#!/usr/bin/env python3
"""The chart on a real API server: it is installed, upgraded and removed, and its rules hold. `deploy_server.py CONTROLPLANE`."""
import json, sys, tempfile
from contextlib import ExitStack
from pathlib import Path

import yaml
from apiserver import ROOT, Server

CONTROLLER = "system:serviceaccount:optipod-system:optipod-controller"
TLS = "/api/v1/namespaces/optipod-system/secrets/optipod-recommender-tls"
CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/optimizationpolicies.optipod.io"
RULES = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"
POLICIES_API = "/apis/optipod.io/v1alpha1/namespaces/{}/optimizationpolicies"
MERGE, STRATEGIC = "application/merge-patch+json", "application/strategic-merge-patch+json"

APPS, WEB_POD = "/apis/apps/v1/namespaces/shop", "/api/v1/namespaces/shop/pods/web/resize"
WEB_DEPLOYMENT = f"{APPS}/deployments/web"

WEB = {"name": "web", "image": "web", "env": [{"name": "A", "value": "b"}]}
RESOURCES = {"requests": {"cpu": "100m"}, "limits": {"memory": "1Gi"}}
BOUNDS = {"cpu": {"min": "10m", "max": "4"}, "memory": {"min": "32Mi", "max": "8Gi"}}
POD = {"containers": [{**WEB, "resources": RESOURCES}, {"name": "side", "image": "side"}], "nodeSelector": {"disk": "fast"}}
KINDS = ["deployments", "statefulsets", "daemonsets"]


def workload(kind):
    template = {"metadata": {"labels": {"app": "web"}}, "spec": POD}
    spec = {"minReadySeconds": 5, "selector": {"matchLabels": {"app": "web"}}, "template": template}
    if kind != "daemonsets":
        spec["replicas"] = 2
    return {"metadata": {"name": "web", "labels": {"app": "web"}, "annotations": {"team": "a"}}, "spec": spec}


def container(**change):
    return {"containers": [{"name": "web", **change}]}


def template(**spec):
    return {"spec": {"template": {"spec": spec}}}


def metadata(**change):
    return {"metadata": change}


LIMITS = container(resources={"limits": {"memory": "2Gi"}})
REQUESTS = {"containers": [{"name": n, "resources": {"requests": {"cpu": "50m"}}} for n in ("web", "side")]}
# What the API server says.
YES, METADATA, WORKLOAD, POD_SPEC, LIMIT = "", "no metadata but", "of a workload's spec", "of a pod's spec", "limits need"
SCOPE, POLICY = "on its own namespace only", "nothing of a policy"

# What the controller's account sends to each kind of workload, and a part of what it is told.
TO_TEMPLATE = [
    ({**template(**REQUESTS), **metadata(annotations={"optipod.io/cause": "Recommend"})}, YES),
    (template(**container(resources={"requests": {"cpu": None}})), YES),
    (template(**LIMITS), LIMIT),
    (template(**container(resources={"limits": {"memory": None}})), LIMIT),
    (template(**container(resources={"limits": {"cpu": "1"}})), LIMIT),
    (template(**container(image="other")), POD_SPEC),
    (template(**container(env=[{"name": "A", "value": "c"}])), POD_SPEC),
    (template(**container(env=[{"name": "A", "$patch": "delete"}])), POD_SPEC),
    (template(**container(workingDir="/other")), POD_SPEC),
    (template(**container(securityContext={"runAsUser": 0})), POD_SPEC),
    (template(containers=[{"name": "new", "image": "new"}]), POD_SPEC),
    (template(containers=[{"name": "side", "$patch": "delete"}]), POD_SPEC),
    (template(initContainers=[{"name": "new", "image": "new"}]), POD_SPEC),
    (template(serviceAccountName="other"), POD_SPEC),
    (template(hostNetwork=True), POD_SPEC),
    (template(nodeSelector=None), POD_SPEC),
    (metadata(annotations={"team": "b"}), METADATA),
]
# And to the Deployment.
TO_WORKLOAD = TO_TEMPLATE + [
    ({"spec": {"replicas": 3}}, WORKLOAD),
    ({"spec": {"paused": True}}, WORKLOAD),
    ({"spec": {"minReadySeconds": None}}, WORKLOAD),
    ({"spec": {"template": metadata(annotations={"optipod.io/cause": "x"})}}, WORKLOAD),
    (metadata(labels={"app": "other"}), METADATA),
    (metadata(annotations={"team": None}), METADATA),
    (metadata(finalizers=["example.com/keep"]), METADATA),
]
# To the Pod's `resize`.
TO_POD = [({"spec": REQUESTS}, YES), ({"spec": LIMITS}, LIMIT)]
# To a policy.
TO_POLICY = [
    (metadata(finalizers=["optipod.io/restore"]), YES),
    (metadata(finalizers=["optipod.io/restore", "example.com/keep"]), POLICY),
    (metadata(finalizers=[]), YES),
    ({"spec": {"mode": "Auto"}}, POLICY),
    (metadata(labels={"a": "b"}), POLICY),
]
# Policies by namespace and selector, and what whoever creates them is told.
POLICIES = [
    ("shop", {"workloadSelector": {}}, YES),
    ("shop", {"namespaces": {"allow": ["shop"]}}, YES),
    ("shop", {"namespaces": {"allow": ["shop", "bank"]}}, SCOPE),
    ("shop", {"namespaceSelector": {}}, SCOPE),
    ("optipod-system", {"namespaces": {"allow": ["shop", "bank"]}}, YES),
]


class Chart:
    """What is done to the chart on one server, and what was not as it should be."""

    def __init__(self, server):
        self.server, self.problems, self.judged = server, [], 0

    def expect(self, what, answer, part):
        """The answer is yes, or a refusal that says `part`."""
        code, said = answer
        self.judged += 1
        if code < 400 if part else code >= 400:
            self.problems.append(f"{what}: expected {part or 'yes'!r}, got {code} {said if code >= 400 else ''}")
        elif part and part not in said:
            self.problems.append(f"{what}: expected {part!r}, got {said}")

    def send(self, path, patch, kind=STRATEGIC):
        """A patch by the controller's account that changes nothing."""
        return self.server.ask("PATCH", f"{path}?dryRun=All", patch, CONTROLLER, kind)

    def install(self):
        ask = self.server.ask
        self.server.helm("install", "optipod", "deploy/chart", "--create-namespace")
        for api, thing in [
            ("/api/v1/namespaces", metadata(name="shop")),
            ("/api/v1/namespaces/shop/serviceaccounts", metadata(name="default")),
            *((f"{APPS}/{kind}", workload(kind)) for kind in KINDS),
            ("/api/v1/namespaces/shop/pods", {**metadata(name="web"), "spec": POD}),
        ]:
            self.expect(api, ask("POST", api, thing), YES)
        for namespace, selector, part in POLICIES:
            # What forbids is in force a little after it is created.
            if part:
                self.server.wait(lambda: self.create(namespace, selector)[0] >= 400, f"{selector} is not refused")
            self.expect(f"policy in {namespace}: {selector}", self.create(namespace, selector), part)
        self.expect("a policy", self.create(*POLICIES[0][:2], dry_run=""), YES)

    def restricted(self):
        """Each pod of the chart, hooks too, passes Pod Security "restricted"; that of another user does not."""
        ours = "/api/v1/namespaces/optipod-system"
        enforce = metadata(labels={"pod-security.kubernetes.io/enforce": "restricted"})
        self.expect("the namespace", self.server.ask("PATCH", ours, enforce, kind=MERGE), YES)
        rendered = self.server.helm("template", "optipod", "deploy/chart", "--set=uninstall.deletePolicies=true")
        pods = {}
        for thing in filter(None, yaml.safe_load_all(rendered)):
            spec = thing["spec"] if thing["kind"] == "Pod" else thing.get("spec", {}).get("template", {}).get("spec")
            claims = thing.get("spec", {}).get("volumeClaimTemplates", [])
            if spec:
                volumes = spec.get("volumes", []) + [{"name": c["metadata"]["name"], "emptyDir": {}} for c in claims]
                pods[thing["kind"]] = {**spec, "serviceAccountName": "default", "volumes": volumes}
        self.expect("an account", self.server.ask("POST", f"{ours}/serviceaccounts", metadata(name="default")), YES)
        assert pods.keys() == {"Deployment", "StatefulSet", "Job", "Pod"}, pods.keys()
        pods["Root"] = {**pods["Pod"], "securityContext": {"runAsNonRoot": False}}
        for kind, spec in pods.items():
            pod = {**metadata(name="try"), "spec": {**spec, "restartPolicy": "Always"}}
            answer = self.server.ask("POST", f"{ours}/pods?dryRun=All", pod)
            self.expect(f"the pod of the {kind}", answer, "violates PodSecurity" if kind == "Root" else YES)

    def create(self, namespace, selector, dry_run="?dryRun=All"):
        spec = {"mode": "Recommend", "selector": selector, "resourceBounds": BOUNDS}
        policy = {"apiVersion": "optipod.io/v1alpha1", "kind": "OptimizationPolicy", **metadata(name="p"), "spec": spec}
        return self.server.ask("POST", POLICIES_API.format(namespace) + dry_run, policy)

    def judge(self, may_change_limits):
        self.server.wait(lambda: self.send(WEB_DEPLOYMENT, {"spec": {"replicas": 3}})[0] >= 400, "replicas may be changed")
        limits = lambda: (self.send(WEB_DEPLOYMENT, template(**LIMITS))[0] < 400) == may_change_limits
        self.server.wait(limits, f"whether limits may be changed is not {may_change_limits}")
        workloads = [(f"{APPS}/{kind}/web", TO_WORKLOAD if kind == "deployments" else TO_TEMPLATE) for kind in KINDS]
        for path, table in [*workloads, (WEB_POD, TO_POD)]:
            for patch, part in table:
                part = YES if part == LIMIT and may_change_limits else part
                self.expect(f"{path} {json.dumps(patch)}", self.send(path, patch), part)
        for patch, part in TO_POLICY:
            answer = self.send(POLICIES_API.format("shop") + "/p", patch, MERGE)
            self.expect(f"policy {json.dumps(patch)}", answer, part)

    def upgrade(self):
        """From an older CRD; the certificate stays."""
        ask, older = self.server.ask, {"spec": {"names": {"shortNames": ["old"]}}}
        certificate = ask("GET", TLS)[1]["data"]
        self.expect("an older CRD", ask("PATCH", CRD, older, kind=MERGE), YES)
        self.server.helm("upgrade", "optipod", "deploy/chart", "--set=allowLimitChanges=true", "--force-conflicts")
        if ask("GET", TLS)[1]["data"] != certificate:
            self.problems.append("an upgrade has made another certificate")
        if ask("GET", CRD)[1]["spec"]["names"]["shortNames"] != ["op"]:
            self.problems.append("an upgrade has left the CRD as it was")

    def recommend_only(self):
        self.server.helm("upgrade", "optipod", "deploy/chart", "--set=mode=recommend-only")
        for what in ["apps/deployments", "/pods", "/pods/resize", "optipod.io/optimizationpolicies"]:
            group, resource, part = (what + "/").split("/")[:3]
            asked = {"group": group, "resource": resource, "subresource": part, "verb": "patch", "namespace": "shop"}
            review = {"spec": {"user": CONTROLLER, "resourceAttributes": asked}}
            answer = self.server.ask("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review)[1]
            if answer["status"]["allowed"]:
                self.problems.append(f"recommend-only may patch {what}")

    def uninstall(self):
        kubectl = lambda *words: self.server.kubectl("get", "--output=name", *words).split()
        self.server.helm("uninstall", "optipod")
        kinds = "clusterroles,clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings"
        ours = "all,configmaps,secrets,serviceaccounts,networkpolicies,roles,rolebindings,poddisruptionbudgets,leases"
        left = kubectl(kinds) + kubectl(ours, "--namespace=optipod-system")
        self.problems += [f"uninstall leaves {name}" for name in left if "optipod" in name]
        self.expect("the CRD, and with it every policy, stays", self.server.ask("GET", CRD), YES)

    def kustomize(self):
        for overlay in sorted((ROOT / "deploy/kustomize/overlays").iterdir()):
            self.server.kubectl("apply", "--server-side", "--force-conflicts", f"--kustomize={overlay}")


def main(binary):
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        chart = Chart(Server(binary, folder, stack))
        chart.install()
        chart.restricted()
        chart.judge(may_change_limits=False)
        chart.upgrade()
        chart.judge(may_change_limits=True)
        chart.recommend_only()
        chart.uninstall()
        chart.kustomize()
    if chart.problems:
        sys.exit("\n".join(chart.problems))
    print(f"on a real API server: installed, upgraded, removed; {chart.judged} answers as they should be")


if __name__ == "__main__":
    main(sys.argv[1])
