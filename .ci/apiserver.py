"""An API server with its etcd, for .ci/deploy_server.py: the binary of tests/controlplane, on loopback, no pod ever starts."""
import json, os, secrets, socket, ssl, subprocess, sys, time, urllib.error, urllib.request
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def run(*command, **options):
    """What a command says; its failure is ours."""
    done = subprocess.run([*map(str, command)], text=True, capture_output=True, timeout=120, **options)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Server:
    """An API server, and an administrator's way to ask it."""

    def __init__(self, binary, folder, stack):
        self.dir, self.token, (etcd, peers, port) = folder, secrets.token_hex(16), (free_port() for _ in range(3))
        self.url = f"https://127.0.0.1:{port}"
        self.certificates()
        (folder / "tokens.csv").write_text(f'{self.token},admin,admin,"system:masters"\n')
        etcd_url = f"http://127.0.0.1:{etcd}"
        self.start = lambda *words: stack.enter_context(started(binary, *words, folder=folder))
        self.start(
            "etcd", "--data-dir=etcd", f"--listen-client-urls={etcd_url}", f"--advertise-client-urls={etcd_url}",
            f"--listen-peer-urls=http://127.0.0.1:{peers}", "--unsafe-no-fsync", "--log-level=error",
        )  # fmt: skip
        self.start(
            "apiserver", f"--etcd-servers={etcd_url}", f"--secure-port={port}", "--bind-address=127.0.0.1",
            "--advertise-address=192.0.2.1", "--endpoint-reconciler-type=none", "--token-auth-file=tokens.csv",
            "--tls-cert-file=server.crt", "--tls-private-key-file=server.key", "--authorization-mode=RBAC",
            "--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file=sa.key",
            "--service-account-signing-key-file=sa.key", "--service-cluster-ip-range=10.0.0.0/16",
        )  # fmt: skip
        self.tls = ssl.create_default_context(cafile=folder / "server.crt")
        self.wait(lambda: self.ask("GET", "/readyz")[0] == 200, "the API server is not ready")
        cluster = {"server": self.url, "certificate-authority": str(folder / "server.crt")}
        config = {
            "clusters": [{"name": "c", "cluster": cluster}],
            "users": [{"name": "u", "user": {"token": self.token}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
        (folder / "kubeconfig").write_text(json.dumps(config))
        self.env = dict(os.environ, KUBECONFIG=str(folder / "kubeconfig"), HELM_CACHE_HOME=str(folder / "helm"))

    def start_controllers(self):
        """What empties namespaces, and deletes what belonged to something deleted."""
        self.start(
            "controller-manager", f"--kubeconfig={self.dir}/kubeconfig", "--service-account-private-key-file=sa.key",
            "--root-ca-file=server.crt", "--leader-elect=false", "--secure-port=0",
        )  # fmt: skip

    def certificates(self):
        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", "server.key")
        # rustls takes no authority for a server.
        names = ("-subj", "/CN=server", "-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE")
        run("openssl", "req", "-x509", *key, *names, "-days", "2", "-out", "server.crt", cwd=self.dir)
        run("openssl", "genrsa", "-out", "sa.key", "2048", cwd=self.dir)

    def ask(self, verb, path, body=None, user=None, kind="application/json"):
        """One request: the code, and the object or the error's message."""
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": kind}
        if user:
            headers["Impersonate-User"] = user
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers, method=verb)
        try:
            with urllib.request.urlopen(request, timeout=30, context=self.tls) as answer:
                text = answer.read()
                return answer.status, json.loads(text) if text.startswith(b"{") else text.decode()
        except urllib.error.HTTPError as error:
            text = error.read()
            return error.code, json.loads(text)["message"] if text.startswith(b"{") else text.decode()
        except urllib.error.URLError as error:
            return 0, str(error)

    def helm(self, *words):
        return run("helm", *words, "--namespace", "optipod-system", env=self.env, cwd=ROOT)

    def kubectl(self, *words, **options):
        return run("kubectl", *words, env=self.env, cwd=ROOT, **options)

    def wait(self, is_so, problem):
        until = time.monotonic() + 60
        while not is_so():
            if time.monotonic() > until:
                logs = "".join(path.read_text()[-3000:] for path in self.dir.glob("*.log"))
                sys.exit(f"{problem} within 60 s\n{logs}")
            time.sleep(0.1)


@contextmanager
def started(binary, part, *words, folder):
    """A process that ends with the block."""
    with open(folder / f"{part}.log", "w") as log:
        process = subprocess.Popen([binary, part, *words], cwd=folder, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
