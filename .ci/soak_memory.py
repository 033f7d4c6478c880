"""The stage `memory-limit` of .ci/soak: both roles as the chart starts them, each in a cgroup with the chart's limit.

The real API server has running pods, but no kubelet: a resize that it takes is never actuated. 300,000 containers are
served by a double, with copies of the real server's objects, without TLS, leader election and limit.
"""
import base64, json, subprocess, sys, tempfile, time
from contextlib import ExitStack
from pathlib import Path

import apiserver
from soak_cluster import CONTAINERS, MERGE, POLICIES, POLICY, REPLICAS, Load
from soak_double import Double, serve_metrics
from soak_role import Ended, Role, bytes_of, cgroup

CONTROLPLANE = apiserver.ROOT / "tests/controlplane/bin/controlplane"
OURS, HOST = "/api/v1/namespaces/optipod-system", "optipod-recommender.optipod-system.svc"
INTERVAL = 15
AUDIT = {
    "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["ResponseStarted", "ResponseComplete", "Panic"],
    "rules": [{"level": "Metadata", "userGroups": ["system:serviceaccounts:optipod-system"]}, {"level": "None"}],
}  # fmt: skip
NO_LIMIT = "not possible here: no cgroup with the memory controller that can be made; VmHWM is held against the limit instead"


class Pair:
    """Both roles on one cluster of so many Deployments, and what is done to them."""

    def __init__(self, recommender, controller, caller, policy, deployments):
        self.recommender, self.controller, self.roles = recommender, controller, [recommender, controller]
        self.caller, self.policy, self.deployments, self.findings = caller, policy, deployments, []
        self.late_from, self.unlisted, self.figures = time.monotonic() + 60, 0.0, {}

    def run(self, steps, seconds):
        """Runs both and takes each step (second, what) at its time."""
        for role in self.roles:
            role.start()
        ready = {role.name: [role.wait_ready()] for role in self.roles}
        self.figures["ready_after_seconds"] = ready
        self.listed()
        begun, steps = time.monotonic(), list(steps)
        while (now := time.monotonic() - begun) < seconds:
            if steps and now >= steps[0][0]:
                steps.pop(0)[1](self)
            for role in self.roles:
                if not role.sample():
                    raise Ended(role.story())
            self.check_tick()
            time.sleep(1)
        self.check_end(seconds)
        for role in self.roles:
            role.end()
            self.findings += role.findings
            self.figures[role.name] = role.figures

    def judged(self, steps, seconds):
        """Runs both; what went wrong, also where it ended early. No process is left."""
        try:
            self.run(steps, seconds)
        except Ended as early:
            self.findings.append(str(early))
        finally:
            for role in self.roles:
                self.findings += role.killed_for_memory()
                if role.process and role.process.poll() is None:
                    role.process.kill()
                    role.process.wait()

    def check_tick(self):
        stored = self.recommender.metric("optipod_collector_last_success_timestamp_seconds")
        behind = time.time() - stored
        # A restarted process has stored nothing yet.
        if time.monotonic() > self.late_from and behind > 2 * INTERVAL + 1:
            self.findings.append(f"a tick is late: {'none was stored' if not stored else f'the last was stored {behind:.0f} s ago'}")
            self.late_from = time.monotonic() + 60

    def count_ticks(self):
        """Ticks and their seconds of the recommender's life, before it ends."""
        name = "optipod_collector_tick_duration_seconds"
        for figure, series in [("ticks", f"{name}_count"), ("tick_seconds", f"{name}_sum")]:
            self.figures[figure] = round(self.figures.get(figure, 0) + self.recommender.metric(series), 2)
        failures = {step: self.recommender.metric(f'optipod_collector_tick_failures_total{{step="{step}"}}') for step in ["scrape", "owners", "keep"]}
        failures["owners"] -= self.unlisted
        self.findings += [f"{failed:.0f} ticks failed ({step})" for step, failed in failures.items() if failed]

    def listed(self):
        """The recommender is ready: no tick could store anything before its first list was complete."""
        self.unlisted = self.recommender.metric('optipod_collector_tick_failures_total{step="owners"}')

    def count_resizes(self):
        """Workloads that were changed in the controller's life, before it ends."""
        done = self.controller.metric('optipod_applications_total{method="Resize",policy="optipod-system/all"}')
        self.figures["applied"] = self.figures.get("applied", 0) + round(done)

    def restart(self, role):
        """As after a kill by the kernel."""
        if role is self.recommender:
            self.count_ticks()
            self.late_from = time.monotonic() + 60
        else:
            self.count_resizes()
        role.kill()
        role.start()
        self.figures["ready_after_seconds"][role.name].append(role.wait_ready())
        if role is self.recommender:
            self.listed()

    def burst(self):
        """`optipod top` twice at once: all series in pages, and the usage of each."""
        begun, wanted = time.monotonic(), self.deployments * len(CONTAINERS)
        asked = [subprocess.Popen(self.caller, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
        for one in asked:
            said, error = one.communicate(timeout=120)
            rows = max(0, len(said.splitlines()) - 1)
            if one.returncode or rows != wanted:
                self.findings.append(f"`optipod top` has {rows} of {wanted} series {error[:300]}")
        self.figures.setdefault("top_twice_seconds", []).append(round(time.monotonic() - begun, 1))

    def check_end(self, seconds):
        self.count_ticks()
        summary = self.policy().get("status", {}).get("summary", {})
        self.figures["summary"] = summary
        if summary.get("workloads") != self.deployments:
            self.findings.append(f"the policy's summary has {summary.get('workloads')} of {self.deployments} workloads")
        policy = '{policy="optipod-system/all"}'
        self.figures["recommendations"] = round(self.controller.metric(f"optipod_recommendations_total{policy}"))
        if not self.figures["recommendations"]:
            self.findings.append("nothing was recommended")
        self.count_resizes()
        self.figures["seals"] = len(list((self.recommender.folder / "data/slots").glob("5m-*.slot")))
        # A slot is sealed two minutes after its end.
        if self.figures["seals"] < (expected := int(seconds - 180) // 300):
            self.findings.append(f"{self.figures['seals']} slots of 5 minutes were sealed, not {expected}")


def chart(server, folder):
    """Installs the chart; the pods' arguments, environment and limits, and files in place of their volumes."""
    server.helm("install", "optipod", "deploy/chart", "--create-namespace")
    ask = lambda path: server.ask("GET", path)[1]
    apps = "/apis/apps/v1/namespaces/optipod-system"
    roles = {"recommender": ask(f"{apps}/statefulsets/optipod-recommender"), "controller": ask(f"{apps}/deployments/optipod-controller")}
    (folder / "config.yaml").write_text(ask(f"{OURS}/configmaps/optipod-config")["data"]["config.yaml"])
    for file, text in ask(f"{OURS}/secrets/optipod-recommender-tls")["data"].items():
        (folder / file).write_bytes(base64.b64decode(text))
    # Somebody who may ask everything.
    server.kubectl("create", "serviceaccount", "person", "--namespace=optipod-system")
    server.kubectl("create", "clusterrolebinding", "person", "--clusterrole=cluster-admin", "--serviceaccount=optipod-system:person")
    for account, audience in [("optipod-recommender", None), ("optipod-controller", None), ("optipod-controller", "optipod"), ("person", "optipod")]:
        spec = {"expirationSeconds": 10_800, **({"audiences": [audience]} if audience else {})}
        code, said = server.ask("POST", f"{OURS}/serviceaccounts/{account}/token", {"spec": spec})
        if code >= 300:
            sys.exit(f"no token of {account}: {said}")
        config = json.loads((server.dir / "kubeconfig").read_text())
        config["users"][0]["user"]["token"] = said["status"]["token"]
        (folder / (f"{account}.token" if audience else f"{account}.kubeconfig")).write_text(said["status"]["token"] if audience else json.dumps(config))
    found = {}
    for name, thing in roles.items():
        container = thing["spec"]["template"]["spec"]["containers"][0]
        environment = {variable["name"]: variable["value"] for variable in container["env"] if "value" in variable}
        found[name] = {"args": container["args"], "env": environment, "limit": container["resources"]["limits"]["memory"]}
    return found


def pair(binary, specs, folder, stack, policy, deployments, double=None):
    """Both roles, with the chart's arguments: addresses and files are those of this machine."""
    port, roles = apiserver.free_port(), {}
    tls = lambda account: [
        f"--recommender-addr=https://127.0.0.1:{port}", f"--recommender-server-name={HOST}",
        f"--recommender-ca-file={folder}/ca.crt", f"--recommender-token-file={folder}/{account}.token",
    ]  # fmt: skip
    to = lambda account: [f"--recommender-addr=http://127.0.0.1:{port}"] if double else tls(account)
    # A double checks no token and keeps no Lease.
    gone = ("--config=", "--data-dir=", "--grpc-addr=", "--recommender-addr=") + (("--tls-", "--enable-leader-election") if double else ())
    for name, spec in specs.items():
        limit = None if double else bytes_of(spec["limit"])
        group = cgroup(name, limit, stack) if limit else None
        arguments = [argument.replace("/etc/optipod-tls", str(folder)) for argument in spec["args"] if not argument.startswith(gone)]
        here = [f"--data-dir={folder}/data", f"--grpc-addr=127.0.0.1:{port}"] if name == "recommender" else to("optipod-controller")
        kubeconfig = f"{folder}/double.kubeconfig" if double else f"{folder}/optipod-{name}.kubeconfig"
        environment = {**spec["env"], "POD_NAME": f"optipod-{name}-0", "KUBECONFIG": kubeconfig, "HOME": str(folder)}
        command = [binary, *arguments, f"--config={folder}/config.yaml", *here]
        roles[name] = Role(name, command, environment, folder, group, limit)
    caller = [binary, "top", "--limit=10000000", *to("person")]
    return Pair(roles["recommender"], roles["controller"], caller, policy, deployments)


def requests(folder, seconds):
    """Requests a second of each role, by the audit log."""
    users = [json.loads(line)["user"]["username"] for line in open(folder / "audit.log")]
    return {role: round(users.count(f"system:serviceaccount:optipod-system:optipod-{role}") / seconds, 2) for role in ["recommender", "controller"]}


def real(progress, binary, containers, minutes):
    """On the real API server, in Recommend and then in Auto."""
    deployments = max(1, containers // REPLICAS // len(CONTAINERS))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=progress.dir)))
        (folder / "audit.yaml").write_text(json.dumps(AUDIT))
        server = apiserver.Server(CONTROLPLANE, folder, stack, "--audit-policy-file=audit.yaml", "--audit-log-path=audit.log")
        begun = time.monotonic()
        specs, load = chart(server, folder), Load(server)
        load.create(deployments)
        metrics = serve_metrics(server, deployments)
        stack.callback(metrics.shutdown)
        code, said = server.ask("POST", POLICIES, POLICY)
        if code >= 300:
            sys.exit(f"no policy: {said}")
        progress.state["copied"] = {"specs": specs, "samples": load.samples}
        both = pair(binary, specs, folder, stack, lambda: server.ask("GET", f"{POLICIES}/all")[1], deployments)
        both.figures |= {"created_in_seconds": round(time.monotonic() - begun), "bytes_of_a_pod": len(json.dumps(load.samples["pod"], separators=(",", ":")))}
        auto = lambda both: server.ask("PATCH", f"{POLICIES}/all", {"spec": {"mode": "Auto"}}, kind=MERGE)
        unit = minutes * 60 / 10
        steps = [(4 * unit, Pair.burst), (5 * unit, auto), (6 * unit, lambda b: b.restart(b.recommender)), (7 * unit, lambda b: b.restart(b.controller)), (9 * unit, Pair.burst)]
        both.judged(steps, minutes * 60)
        both.figures["requests_per_second"] = requests(folder, minutes * 60)
        limits = [NO_LIMIT] if not all(role.group for role in both.roles) else []
        return f"`{json.dumps(both.figures)}`", limits + both.findings


def doubled(progress, binary, containers, minutes):
    """On the double, in Recommend."""
    deployments, copied = max(1, containers // REPLICAS // len(CONTAINERS)), progress.state["copied"]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=progress.dir)))
        double = Double(copied["samples"], deployments)
        stack.callback(double.shutdown)
        (folder / "config.yaml").write_text("logFormat: json\n")
        cluster = {"server": f"http://127.0.0.1:{double.server_port}"}
        config = {"clusters": [{"name": "c", "cluster": cluster}], "users": [{"name": "u", "user": {}}], "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}]}
        (folder / "double.kubeconfig").write_text(json.dumps({**config, "current-context": "x"}))
        both = pair(binary, copied["specs"], folder, stack, lambda: double.policy, deployments, double)
        both.figures["bytes_of_a_pod"] = len(double.texts["pod"])
        unit = minutes * 60 / 10
        steps = [(4 * unit, Pair.burst), (5 * unit, lambda b: b.restart(b.recommender)), (7 * unit, lambda b: b.restart(b.controller)), (9 * unit, Pair.burst)]
        both.judged(steps, minutes * 60)
        return f"`{json.dumps(both.figures)}`", both.findings


def measure(progress, binary, share):
    if not CONTROLPLANE.exists():
        sys.exit("run tests/controlplane/build.sh (needs Go)")
    scaled = lambda number, least: max(least, round(number * share))
    try:
        progress.part("50,000 containers", real, progress, binary, scaled(50_000, 200), scaled(13, 3))
        progress.part("10,000 containers", real, progress, binary, scaled(10_000, 100), scaled(6, 3))
        progress.part("300,000 containers, on a double", doubled, progress, binary, scaled(300_000, 400), scaled(8, 3))
    finally:
        progress.state["total"] = f"{len(progress.parts)} of 3 sizes"
