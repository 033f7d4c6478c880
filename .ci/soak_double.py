"""What answers in `.ci/soak memory-limit`: invented usage in metrics-server's protobuf, and a double of the API server that
serves copies of real objects, where a real one would have too many."""
import json, re, ssl, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from soak_cluster import BEGUN, CONTAINERS, HASH, NAMESPACES, PODS_A_NODE, POLICY, REPLICAS, app, namespace, node_name, pod_name, pods_of

METRICS_API = "/apis/metrics.k8s.io/v1beta1"


def varint(value):
    low = value & 0x7F
    return bytes([low | 0x80]) + varint(value >> 7) if value > 0x7F else bytes([low])


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


class Usage:
    """The PodMetricsList of running pods, in protobuf as metrics-server writes it: new points each 15 s."""

    def __init__(self, deployments):
        entry = lambda key, value: field(11, field(1, key) + field(2, value))
        head = lambda n, replica: field(
            1, field(1, pod_name(n, replica)) + field(3, namespace(n)) + entry("app", app(n)) + entry("pod-template-hash", HASH)
        )
        self.heads = [head(n, replica) for n, replica in pods_of(deployments)]
        amount = lambda key, value: field(2, field(1, key) + field(2, field(1, value)))
        points = lambda name, n: field(4, field(1, name) + amount("cpu", f"{120_000_000 + n * 1_000_003}n") + amount("memory", f"{81_000 + n * 111}Ki"))
        self.points = [b"".join(points(name, n) for name in CONTAINERS) for n in range(64)]

    def body(self):
        tick = int(time.time()) // 15
        common = field(2, field(1, tick * 15)) + field(3, field(1, 15_000_000_000))
        tails = [common + points for points in self.points]
        items = []
        for n, head in enumerate(self.heads):
            tail = tails[(n * 7 + tick) % 64]
            items += [b"\x12", varint(len(head) + len(tail)), head, tail]
        meta = field(1, field(1, "metrics.k8s.io/v1beta1") + field(2, "PodMetricsList"))
        return b"k8s\x00" + meta + field(2, field(1, b"") + b"".join(items))


class Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def send(self, body, code=200, kind="application/json"):
        body = body if isinstance(body, bytes) else (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def metrics(self):
        """Whether the path was one of metrics-server's, and then answered."""
        if self.path.startswith(f"{METRICS_API}/pods"):
            self.send(self.server.usage.body(), kind="application/vnd.kubernetes.protobuf")
        elif self.path == METRICS_API:
            pods = {"name": "pods", "singularName": "", "namespaced": True, "kind": "PodMetrics", "verbs": ["get", "list"]}
            self.send({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "metrics.k8s.io/v1beta1", "resources": [pods]})
        return self.path.startswith(METRICS_API)

    def do_GET(self):
        if not self.metrics():
            self.send({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}, 404)


class Server(ThreadingHTTPServer):
    """On a free port of loopback, until `shutdown`."""

    daemon_threads = True

    def __init__(self, handler, usage, certificate=None):
        super().__init__(("127.0.0.1", 0), handler)
        self.usage = usage
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate.with_suffix(".crt"), certificate.with_suffix(".key"))
            self.socket = context.wrap_socket(self.socket, server_side=True)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, *_):
        pass  # a caller that was killed


def serve_metrics(server, deployments):
    """Lets the API server ask an invented metrics-server."""
    metrics = Server(Answers, Usage(deployments), server.dir / "server")
    service = {"metadata": {"name": "metrics-server"}, "spec": {"type": "ExternalName", "externalName": "localhost"}}
    spec = {
        "group": "metrics.k8s.io", "version": "v1beta1", "groupPriorityMinimum": 100, "versionPriority": 100, "insecureSkipTLSVerify": True,
        "service": {"name": "metrics-server", "namespace": "kube-system", "port": metrics.server_port},
    }  # fmt: skip
    for path, body in [
        ("/api/v1/namespaces/kube-system/services", service),
        ("/apis/apiregistration.k8s.io/v1/apiservices", {"metadata": {"name": "v1beta1.metrics.k8s.io"}, "spec": spec}),
    ]:
        code, said = server.ask("POST", path, body)
        if code >= 300:
            raise RuntimeError(f"POST {path}: {code} {said}")
    server.wait(lambda: server.ask("GET", METRICS_API)[0] == 200, "the metrics API is not served")
    return metrics


class Double(Server):
    """Serves copies of the objects that a real API server gave, in pages; keeps the one policy's status."""

    def __init__(self, samples, deployments):
        super().__init__(Asked, Usage(deployments))
        self.samples, self.deployments = samples, deployments
        self.texts = {kind: json.dumps(sample, separators=(",", ":")) for kind, sample in samples.items()}
        metadata = lambda kind: {"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": samples[kind]["metadata"]}
        self.partial = {kind: json.dumps(metadata(kind), separators=(",", ":")) for kind in ["pod", "replica_set"]}
        self.policy, self.changed = json.loads(json.dumps(POLICY)), threading.Condition()
        self.policy["metadata"] |= {"uid": "5f0c1d52-0000-4000-8000-000000000000", "generation": 1, "resourceVersion": "1000", "creationTimestamp": BEGUN}

    def counts(self):
        nodes = -(-self.deployments * REPLICAS // PODS_A_NODE)
        return {"pods": self.deployments * REPLICAS, "replicasets": self.deployments, "deployments": self.deployments, "nodes": nodes, "namespaces": NAMESPACES}

    def item(self, resource, i, is_partial):
        """The i-th object: the sample with other names and uids."""
        if resource == "namespaces":
            return json.dumps({"metadata": {"name": namespace(i), "uid": f"n{i}", "resourceVersion": "1"}})
        kind = {"pods": "pod", "replicasets": "replica_set", "deployments": "deployment", "nodes": "node"}[resource]
        text = (self.partial if is_partial else self.texts)[kind]
        if kind == "node":
            return text.replace(self.samples["node"]["metadata"]["name"], f"node-{i:04}")
        n, replica = divmod(i, REPLICAS) if kind == "pod" else (i, 0)
        text = text.replace("team-000", namespace(n)).replace("app-00000", app(n)).replace("xkq0z", f"xkq{replica}z").replace("node-0000", node_name(n, replica))
        for mark, owner in enumerate(["deployment", "replica_set", "pod"]):
            uid = self.samples[owner]["metadata"]["uid"]
            text = text.replace(uid, f"{mark}{i if owner == 'pod' else n:07x}{uid[8:]}")
        return text


class Asked(Answers):
    def do_GET(self):
        url = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        if self.metrics():
            return None
        resource = url.path.rsplit("/", 1)[1]
        if query.get("watch") in ("true", "1"):
            return self.watch(resource, int(query.get("timeoutSeconds", 290)))
        if resource == "resources" or re.fullmatch(r"/apis?(/v1|/[a-z0-9.]+/v[a-z0-9]+)?", url.path):
            return super().do_GET()
        is_partial = "PartialObjectMetadataList" in self.headers.get("Accept", "")
        begin, count = int(query.get("continue", 0)), self.server.counts().get(resource, 0)
        end = min(begin + int(query.get("limit", count or 1)), count)
        items = [self.server.item(resource, i, is_partial) for i in range(begin, end)]
        if resource == "optimizationpolicies":
            items = [json.dumps(self.server.policy)]
        metadata = json.dumps({"resourceVersion": "1000", **({"continue": str(end)} if end < count else {})})
        self.send(f'{{"kind":"List","apiVersion":"v1","metadata":{metadata},"items":[{",".join(items)}]}}')

    def watch(self, resource, seconds):
        """Tells of new statuses of the policy, and nothing else."""
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection, until, told = True, time.monotonic() + seconds, None
        while (left := until - time.monotonic()) > 0:
            with self.server.changed:
                self.server.changed.wait(left)
                version = self.server.policy["metadata"]["resourceVersion"]
                event = json.dumps({"type": "MODIFIED", "object": self.server.policy})
            if resource == "optimizationpolicies" and version != told:
                told = version
                self.wfile.write(f"{event}\n".encode())

    def body(self):
        return json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def do_POST(self):
        body = self.body()
        if "reviews" in self.path:
            body["status"] = {"allowed": True}
        self.send(body, 201)

    def do_PATCH(self):
        change = self.body()
        if "/optimizationpolicies/" not in self.path:
            return self.send(change)
        with self.server.changed:
            policy = self.server.policy
            status = policy.setdefault("status", {})
            for key, value in change.get("status", {}).items():
                if value is None:
                    status.pop(key, None)
                elif isinstance(value, dict):
                    status[key] = {k: v for k, v in {**status.get(key, {}), **value}.items() if v is not None}
                else:
                    status[key] = value
            policy["metadata"]["resourceVersion"] = str(int(policy["metadata"]["resourceVersion"]) + 1)
            text = json.dumps(policy)
            self.server.changed.notify_all()
        return self.send(text)
