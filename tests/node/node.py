"""A cluster of one node whose containers really run: the control plane of tests/controlplane, a kubelet, kube-proxy, containerd.

It needs root, runc, CNI plugins and iptables, and lives in namespaces of its own (network, mounts, processes): nothing of it is
left when it ends. Whoever runs this has entered them (`unshare`, as .ci/soak does).
"""
import base64, json, os, secrets, shutil, subprocess, sys, time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.append(str(ROOT / ".ci"))
from nameserver import Nameserver

BIN = Path(__file__).resolve().parent / "bin"
CONTROLPLANE = ROOT / "tests/controlplane/bin/controlplane"
HOST, PODS, SERVICES, DNS = "10.88.0.1", "10.88.0.0/16", "10.0.0.0/16", "10.0.0.10"
API, ETCD, KUBELET, METRICS = 6443, 2379, 10250, 4443
CNI = "/usr/lib/cni"
SANDBOX, LOAD = "node.test/pause:1", "node.test/load:1"
# Who speaks to the API server, and their groups.
USERS = {
    "admin": "system:masters",
    "system:kube-controller-manager": "",
    "system:kube-scheduler": "",
    "system:kube-proxy": "",
    "system:node:node": "system:nodes",
    "metrics-server": "",
}
# What the kubelet sets in the kernel, for the whole machine.
TUNABLES = ["vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops", "kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes"]


def run(*command, timeout=120, **options):
    """What a command says; its failure is ours."""
    done = subprocess.run([*map(str, command)], text=True, capture_output=True, timeout=timeout, **options)
    if done.returncode:
        raise AssertionError(f"{' '.join(map(str, command))} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def wait(what, is_so, seconds=120, log=lambda: ""):
    """Until it is so; what it was the last time is told, and a log."""
    until, last = time.monotonic() + seconds, None
    while time.monotonic() < until:
        try:
            if found := is_so():
                return found
        except (AssertionError, KeyError, IndexError, ValueError) as error:
            last = error
        time.sleep(0.5)
    raise AssertionError(f"{what}: not within {seconds} s; {last or ''} {log()}")


class Node:
    def __init__(self, folder):
        self.dir, self.children = folder, []
        self.tunables = {name: Path("/proc/sys", name).read_text() for name in TUNABLES}
        self.env = dict(os.environ, KUBECONFIG=str(folder / "admin.kubeconfig"), HELM_CACHE_HOME=str(folder / "helm"))

    def __enter__(self):
        try:
            self.network()
            self.certificates()
            self.users()
            self.control_plane()
            self.containerd()
            self.kubelet()
            self.services()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for child in reversed(self.children):
            child.terminate()
        for child in self.children:
            try:
                child.wait(timeout=10)
            except subprocess.TimeoutExpired:
                child.kill()
        # The last of the shims and containers go with the namespace of processes.
        for name, value in self.tunables.items():
            Path("/proc/sys", name).write_text(value)

    def start(self, name, *command, env=None):
        log = open(self.dir / f"{name}.log", "w")
        self.children.append(subprocess.Popen([*map(str, command)], cwd=self.dir, stdout=log, stderr=log, env=env))

    def log(self, name, characters=2000):
        return f"{name}: ...{(self.dir / f'{name}.log').read_text()[-characters:]}"

    def kubectl(self, *words, **options):
        return run("kubectl", *words, env=self.env, cwd=ROOT, **options)

    def get(self, *words):
        return json.loads(self.kubectl("get", *words, "--output=json"))

    def apply(self, *things):
        self.kubectl("apply", "--server-side", "--filename=-", input="\n---\n".join(map(json.dumps, things)))

    def network(self):
        run("ip", "link", "set", "lo", "up")
        run("ip", "link", "add", "cni0", "type", "bridge")
        run("ip", "addr", "add", f"{HOST}/16", "dev", "cni0")
        run("ip", "link", "set", "cni0", "up")
        # The addresses of Services lie on no link; kube-proxy changes them before they are looked for.
        run("ip", "route", "add", "default", "dev", "cni0")
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")

    def certificates(self):
        for name in ["ca", "front-proxy-ca"]:
            run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}",
                "-keyout", self.dir / f"{name}.key", "-out", self.dir / f"{name}.crt")  # fmt: skip
        names = f"IP:{HOST},IP:127.0.0.1,IP:10.0.0.1,DNS:node,DNS:localhost,DNS:kubernetes.default.svc,DNS:metrics-server.kube-system.svc"
        self.sign("ca", "server", "/CN=server", names)
        # The API server speaks to the kubelet as this.
        self.sign("ca", "kubelet-client", "/O=system:masters/CN=kubelet-client", "DNS:client")
        self.sign("front-proxy-ca", "front-proxy-client", "/CN=front-proxy-client", "DNS:client")
        run("openssl", "genrsa", "-out", self.dir / "sa.key", "2048")

    def sign(self, ca, name, subject, names):
        key, request, extensions = (self.dir / f"{name}{end}" for end in (".key", ".csr", ".ext"))
        run("openssl", "req", "-newkey", "rsa:2048", "-nodes", "-subj", subject, "-keyout", key, "-out", request)
        extensions.write_text(f"subjectAltName={names}\n")
        run("openssl", "x509", "-req", "-in", request, "-CA", self.dir / f"{ca}.crt", "-CAkey", self.dir / f"{ca}.key",
            "-CAcreateserial", "-days", "2", "-extfile", extensions, "-out", self.dir / f"{name}.crt")  # fmt: skip

    def users(self):
        rows = []
        for user, group in USERS.items():
            token = secrets.token_hex(16)
            rows.append(f'{token},{user},{user},"{group}"\n')
            cluster = {"server": f"https://{HOST}:{API}", "certificate-authority": str(self.dir / "ca.crt")}
            config = {
                "apiVersion": "v1", "kind": "Config", "current-context": "x",
                "clusters": [{"name": "c", "cluster": cluster}], "users": [{"name": "u", "user": {"token": token}}],
                "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            }  # fmt: skip
            (self.dir / f"{user.split(':')[-1]}.kubeconfig").write_text(json.dumps(config))
        (self.dir / "tokens.csv").write_text("".join(rows))

    def control_plane(self):
        etcd = f"http://127.0.0.1:{ETCD}"
        self.start("etcd", CONTROLPLANE, "etcd", "--data-dir=etcd", f"--listen-client-urls={etcd}", f"--advertise-client-urls={etcd}",
                   "--unsafe-no-fsync", "--log-level=error")  # fmt: skip
        front = "--requestheader-"
        self.start(
            "apiserver", CONTROLPLANE, "apiserver", f"--etcd-servers={etcd}", f"--secure-port={API}", f"--bind-address={HOST}",
            f"--advertise-address={HOST}", "--token-auth-file=tokens.csv", "--tls-cert-file=server.crt",
            "--tls-private-key-file=server.key", "--client-ca-file=ca.crt", "--authorization-mode=Node,RBAC",
            "--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file=sa.key",
            "--service-account-signing-key-file=sa.key", f"--service-cluster-ip-range={SERVICES}", "--allow-privileged",
            "--enable-admission-plugins=NodeRestriction", "--kubelet-certificate-authority=ca.crt",
            "--kubelet-client-certificate=kubelet-client.crt", "--kubelet-client-key=kubelet-client.key",
            "--kubelet-preferred-address-types=InternalIP", f"{front}client-ca-file=front-proxy-ca.crt",
            f"{front}allowed-names=front-proxy-client", f"{front}username-headers=X-Remote-User",
            f"{front}group-headers=X-Remote-Group", f"{front}extra-headers-prefix=X-Remote-Extra-",
            "--proxy-client-cert-file=front-proxy-client.crt", "--proxy-client-key-file=front-proxy-client.key",
        )  # fmt: skip
        wait("the API server is ready", lambda: self.kubectl("get", "--raw=/readyz") == "ok")
        self.start("controller-manager", CONTROLPLANE, "controller-manager", "--kubeconfig=kube-controller-manager.kubeconfig",
                   "--service-account-private-key-file=sa.key", "--root-ca-file=ca.crt", "--use-service-account-credentials",
                   "--leader-elect=false", "--secure-port=0")  # fmt: skip
        self.start("scheduler", CONTROLPLANE, "scheduler", "--kubeconfig=kube-scheduler.kubeconfig", "--leader-elect=false",
                   "--secure-port=0")  # fmt: skip

    def containerd(self):
        network = {
            "cniVersion": "1.0.0", "name": "node",
            "plugins": [{
                "type": "bridge", "bridge": "cni0", "isGateway": True, "ipMasq": False, "hairpinMode": True,
                "ipam": {"type": "host-local", "ranges": [[{"subnet": PODS, "rangeStart": "10.88.1.1"}]],
                         "routes": [{"dst": "0.0.0.0/0"}], "dataDir": str(self.dir / "addresses")},
            }],
        }  # fmt: skip
        (self.dir / "cni").mkdir()
        (self.dir / "cni/10-node.conflist").write_text(json.dumps(network))
        socket_file = self.dir / "containerd.sock"
        (self.dir / "containerd.toml").write_text(f"""
version = 3
root = "{self.dir}/containerd"
state = "{self.dir}/containerd-state"
[grpc]
address = "{socket_file}"
[ttrpc]
address = "{socket_file}.ttrpc"
[plugins."io.containerd.cri.v1.images"]
snapshotter = "overlayfs"
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{SANDBOX}"
[plugins."io.containerd.cri.v1.runtime"]
restrict_oom_score_adj = true # for a machine where root may not lower it
[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["{CNI}"]
conf_dir = "{self.dir}/cni"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
""")
        self.start("containerd", BIN / "containerd", "--config=containerd.toml", env=dict(os.environ, PATH=f"{BIN}:{os.environ['PATH']}"))
        wait("containerd answers", lambda: self.ctr("version"))
        self.image(SANDBOX, BIN / "load", ["/load", "pause"])
        self.image(LOAD, BIN / "load", ["/load"])

    def ctr(self, *words):
        return run(BIN / "ctr", "--address", self.dir / "containerd.sock", "--namespace", "k8s.io", *words)

    def image(self, name, program, entry):
        """An image FROM scratch with one program."""
        work = self.dir / "image"
        work.mkdir()
        shutil.copy(program, work / program.name)
        (work / "Containerfile").write_text(f"FROM scratch\nCOPY {program.name} /{program.name}\nUSER 65532:65532\nENTRYPOINT {json.dumps(entry)}\n")
        buildah = ["buildah", "--root", work / "storage", "--runroot", work / "run", "--storage-driver", "vfs"]
        run(*buildah, "build", "--isolation", "chroot", "--tag", name, "-f", work / "Containerfile", work)
        run(*buildah, "push", name, f"oci-archive:{work}/image.tar:{name}")
        self.load(work / "image.tar", name)
        shutil.rmtree(work)

    def load(self, archive, name):
        """Gives the node an image, as if it had pulled it under this name."""
        work = self.dir / "named"
        work.mkdir()
        run("tar", "--extract", "--file", archive, cwd=work)
        index = json.loads((work / "index.json").read_text())
        index["manifests"][0]["annotations"] = {"org.opencontainers.image.ref.name": name}
        (work / "index.json").write_text(json.dumps(index))
        run("tar", "--create", "--file", self.dir / "named.tar", *os.listdir(work), cwd=work)
        self.ctr("images", "import", "--local", self.dir / "named.tar")
        shutil.rmtree(work)

    def kubelet(self):
        config = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
            "address": HOST, "port": KUBELET, "tlsCertFile": str(self.dir / "server.crt"),
            "tlsPrivateKeyFile": str(self.dir / "server.key"),
            "authentication": {"x509": {"clientCAFile": str(self.dir / "ca.crt")}}, "authorization": {"mode": "Webhook"},
            "cgroupDriver": "cgroupfs", "failCgroupV1": False, "failSwapOn": False, "enforceNodeAllocatable": ["pods"],
            "clusterDNS": [DNS], "clusterDomain": "cluster.local", "resolvConf": "", "podLogsDir": str(self.dir / "logs"),
            "containerRuntimeEndpoint": f"unix://{self.dir}/containerd.sock", "healthzPort": 0,
            # The disk belongs to others.
            "evictionHard": {"memory.available": "100Mi"}, "imageGCHighThresholdPercent": 100,
            "nodeStatusUpdateFrequency": "5s", "syncFrequency": "10s",
        }  # fmt: skip
        (self.dir / "kubelet.json").write_text(json.dumps(config))
        self.start("kubelet", BIN / "node", "kubelet", f"--config={self.dir}/kubelet.json", "--kubeconfig=node.kubeconfig",
                   f"--root-dir={self.dir}/kubelet", f"--node-ip={HOST}", "--hostname-override=node")  # fmt: skip
        proxy = {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration", "mode": "iptables",
            "clientConnection": {"kubeconfig": str(self.dir / "kube-proxy.kubeconfig")}, "clusterCIDR": PODS,
            "bindAddress": HOST, "healthzBindAddress": "127.0.0.1:10256", "metricsBindAddress": "127.0.0.1:10249",
            "conntrack": {"maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        }  # fmt: skip
        (self.dir / "proxy.json").write_text(json.dumps(proxy))
        self.start("kube-proxy", BIN / "node", "proxy", f"--config={self.dir}/proxy.json", "--hostname-override=node")

        def is_ready():
            conditions = self.get("node", "node")["status"]["conditions"]
            ready = next(c for c in conditions if c["type"] == "Ready")
            assert ready["status"] == "True", ready
            return True

        wait("the node is ready", is_ready, log=lambda: self.log("kubelet"))

    def services(self):
        """Names, and usage: a metrics-server that asks this kubelet."""
        addons = (ROOT / "tests/controlplane/addons.yaml").read_text()
        addons = addons.replace("${METRICS_SERVER_PORT}", str(METRICS))
        addons = addons.replace("${CA_BUNDLE}", base64.b64encode((self.dir / "ca.crt").read_bytes()).decode())
        self.kubectl("apply", "--filename=-", input=addons)
        config = "metrics-server.kubeconfig"
        self.start("metrics-server", CONTROLPLANE, "metrics-server", f"--kubeconfig={config}", f"--authentication-kubeconfig={config}",
                   f"--authorization-kubeconfig={config}", "--bind-address=127.0.0.1", f"--secure-port={METRICS}",
                   "--tls-cert-file=server.crt", "--tls-private-key-file=server.key", "--client-ca-file=ca.crt",
                   "--kubelet-certificate-authority=ca.crt", "--kubelet-preferred-address-types=InternalIP", "--metric-resolution=15s")  # fmt: skip
        run("ip", "addr", "add", f"{DNS}/32", "dev", "lo")
        Nameserver(DNS, self.address)
        answers = lambda: json.loads(self.kubectl("get", "--raw=/apis/metrics.k8s.io/v1beta1/nodes"))["items"]
        wait("metrics-server answers", answers, log=lambda: self.log("metrics-server"))

    def address(self, name):
        """Of NAME.NAMESPACE.svc.cluster.local, as cluster DNS has it."""
        labels = name.split(".")
        if len(labels) != 5 or labels[2:] != ["svc", "cluster", "local"]:
            return None
        done = subprocess.run(["kubectl", "get", "service", labels[0], f"--namespace={labels[1]}", "--output=jsonpath={.spec.clusterIP}"],
                              text=True, capture_output=True, env=self.env, timeout=10)  # fmt: skip
        return done.stdout or None
