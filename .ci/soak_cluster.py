"""The cluster of `.ci/soak memory-limit`: objects as their controllers and kubelets leave them, on a real API server."""
import json, threading
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPSConnection

REPLICAS, CONTAINERS, NAMESPACES, PODS_A_NODE = 5, ("app", "proxy"), 100, 100
HASH, BEGUN = "5d4f8c7b9f", "2026-01-05T10:00:00Z"
MERGE = "application/merge-patch+json"
POLICIES = "/apis/optipod.io/v1alpha1/namespaces/optipod-system/optimizationpolicies"
POLICY = {
    "apiVersion": "optipod.io/v1alpha1", "kind": "OptimizationPolicy", "metadata": {"namespace": "optipod-system", "name": "all"},
    "spec": {
        "mode": "Recommend", "selector": {"workloadSelector": {}}, "reconciliationInterval": "1m",
        "metricsConfig": {"rollingWindow": "1h", "minSamples": 20, "minSpan": "1m"},
        "resourceBounds": {"cpu": {"min": "10m", "max": "4"}, "memory": {"min": "32Mi", "max": "8Gi"}},
    },
}  # fmt: skip


def namespace(n):
    return f"team-{n % NAMESPACES:03}"


def app(n):
    return f"app-{n:05}"


def pod_name(n, replica):
    return f"{app(n)}-{HASH}-xkq{replica}z"


def node_name(n, replica=0):
    return f"node-{(n * REPLICAS + replica) // PODS_A_NODE:04}"


def pods_of(deployments):
    return ((n, replica) for n in range(deployments) for replica in range(REPLICAS))


def container(name):
    variables = {"LOG_LEVEL": "info", "REGION": "eu-central-1", "DATABASE_HOST": "postgres.data.svc.cluster.local", "CACHE_TTL": "300s"}
    probe = {"httpGet": {"path": "/healthz", "port": "http"}, "periodSeconds": 10, "timeoutSeconds": 2}
    return {
        "name": name, "image": f"registry.example.com/shop/{name}:2026.11.3",
        "env": [{"name": key, "value": value} for key, value in variables.items()],
        "ports": [{"name": "http", "containerPort": 8080 + CONTAINERS.index(name)}], "readinessProbe": probe, "livenessProbe": probe,
        "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "1Gi"}},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }  # fmt: skip


def template(n):
    labels = {"app": app(n), "tier": "web", "app.kubernetes.io/managed-by": "Helm"}
    annotations = {"prometheus.io/scrape": "true", "prometheus.io/port": "8080"}
    return {"metadata": {"labels": labels, "annotations": annotations}, "spec": {"containers": [container(name) for name in CONTAINERS]}}


def owned(kind, owner):
    metadata = owner["metadata"]
    return [{"apiVersion": "apps/v1", "kind": kind, "name": metadata["name"], "uid": metadata["uid"], "controller": True, "blockOwnerDeletion": True}]


def pod_status(name, n):
    condition = lambda what: {"type": what, "status": "True", "lastTransitionTime": BEGUN}
    ran = lambda name: {
        "name": name, "image": f"registry.example.com/shop/{name}:2026.11.3", "ready": True, "started": True, "restartCount": 0,
        "imageID": f"registry.example.com/shop/{name}@sha256:{'5f' * 32}", "containerID": f"containerd://{n:064x}",
        "state": {"running": {"startedAt": BEGUN}}, "resources": container(name)["resources"],
        "allocatedResources": container(name)["resources"]["requests"],
    }  # fmt: skip
    return {
        "phase": "Running", "startTime": BEGUN, "hostIP": "10.0.0.1", "podIP": "10.64.0.1", "podIPs": [{"ip": "10.64.0.1"}],
        "conditions": [condition(what) for what in ["PodScheduled", "Initialized", "ContainersReady", "Ready"]],
        "containerStatuses": [ran(name) for name in CONTAINERS],
    }  # fmt: skip


class Load:
    """Deployments with their ReplicaSets and running pods, created on a real API server."""

    def __init__(self, server):
        self.server, self.local, self.samples = server, threading.local(), {}

    def send(self, method, path, body, manager, kind="application/json"):
        if not hasattr(self.local, "connection"):
            self.local.connection = HTTPSConnection(self.server.url.removeprefix("https://"), context=self.server.tls, timeout=60)
        headers = {"Authorization": f"Bearer {self.server.token}", "Content-Type": kind}
        self.local.connection.request(method, f"{path}?fieldManager={manager}", json.dumps(body), headers)
        answer = self.local.connection.getresponse()
        text = answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path}: {answer.status} {text[:500]}")
        return json.loads(text)

    def create(self, deployments):
        with ThreadPoolExecutor(12) as pool:
            list(pool.map(self.namespace, range(min(NAMESPACES, deployments))))
            list(pool.map(self.node, range(-(-deployments * REPLICAS // PODS_A_NODE))))
            list(pool.map(self.deployment, range(deployments)))

    def namespace(self, n):
        self.send("POST", "/api/v1/namespaces", {"metadata": {"name": namespace(n)}}, "kubectl")
        self.send("POST", f"/api/v1/namespaces/{namespace(n)}/serviceaccounts", {"metadata": {"name": "default"}}, "kube-controller-manager")

    def node(self, n):
        name, size = f"node-{n:04}", {"cpu": "64", "memory": "256Gi", "pods": "110"}
        labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
        self.send("POST", "/api/v1/nodes", {"metadata": {"name": name, "labels": labels}}, "kubelet")
        conditions = [{"type": "Ready", "status": "True", "reason": "KubeletReady", "lastTransitionTime": BEGUN}]
        status = {"capacity": size, "allocatable": size, "conditions": conditions}
        self.samples["node"] = self.send("PATCH", f"/api/v1/nodes/{name}/status", {"status": status}, "kubelet", MERGE)

    def deployment(self, n):
        apps, pods = f"/apis/apps/v1/namespaces/{namespace(n)}", f"/api/v1/namespaces/{namespace(n)}/pods"
        labels, shape, manager = {"app": app(n), "tier": "web"}, template(n), "kube-controller-manager"
        spec = {"replicas": REPLICAS, "selector": {"matchLabels": {"app": app(n)}}, "template": shape}
        deployment = self.send("POST", f"{apps}/deployments", {"metadata": {"name": app(n), "labels": labels}, "spec": spec}, "helm")
        counts = {count: REPLICAS for count in ["replicas", "updatedReplicas", "readyReplicas", "availableReplicas"]}
        status = {"status": {"observedGeneration": 1, **counts}}
        deployment = self.send("PATCH", f"{apps}/deployments/{app(n)}/status", status, manager, MERGE)
        shape["metadata"]["labels"]["pod-template-hash"] = HASH
        spec["selector"]["matchLabels"]["pod-template-hash"] = HASH
        metadata = {"name": f"{app(n)}-{HASH}", "labels": shape["metadata"]["labels"], "ownerReferences": owned("Deployment", deployment)}
        replica_set = self.send("POST", f"{apps}/replicasets", {"metadata": metadata, "spec": spec}, manager)
        for replica in range(REPLICAS):
            name = pod_name(n, replica)
            metadata = {**shape["metadata"], "name": name, "ownerReferences": owned("ReplicaSet", replica_set)}
            self.send("POST", pods, {"metadata": metadata, "spec": {**shape["spec"], "nodeName": node_name(n, replica)}}, manager)
            pod = self.send("PATCH", f"{pods}/{name}/status", {"status": pod_status(name, n * REPLICAS + replica)}, "kubelet", MERGE)
            if (n, replica) == (0, 0):
                self.samples |= {"deployment": deployment, "replica_set": replica_set, "pod": pod}
