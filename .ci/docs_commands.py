#!/usr/bin/env python3
"""Every command in the documentation is tried: `docs_commands.py CONTROLPLANE OPTIPOD`.

On an API server of its own, in the order of each page, as it is written there; what cannot run here is held against the
program's own parser of arguments. ELSEWHERE is the list of those, each with its reason.
"""
import os, re, shlex, subprocess, sys, tempfile
from contextlib import ExitStack
from pathlib import Path

import docs_names
from apiserver import ROOT, Server
from docs_cargo import Cargo

FIRST, LAST = "docs/quick-start.md", "deploy/README.md"  # The first installs with Helm, the last also without.
NOT = ("CHANGELOG.md", "docs/soak/", FIRST, LAST)  # The changelog tells of what was, docs/soak of what ran.
ALL = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, text=True, capture_output=True, check=True).stdout.splitlines()
PAGES = [FIRST, *(page for page in ALL if not page.startswith(NOT)), LAST]

# What only the world outside could answer.
ELSEWHERE_ONLY = ("skopeo", "apt-get", "cosign", "gh", "sha256sum")
# Commands begin with one of these, or with the path of a file of this repository.
PROGRAMS = ["kubectl", "helm", "optipod", "target/release/optipod", "cargo", "just", "promtool", "openssl", *ELSEWHERE_ONLY]
FOLDERS = (".ci/", "deploy/", "benches/", "tests/controlplane/")

# How a command begins that does not run here, and why not. Of ours and of kubectl and helm the arguments are checked still.
ELSEWHERE = {
    "kubectl attach": "no kubelet",
    "kubectl exec": "no kubelet",
    "kubectl logs": "no kubelet",
    "kubectl port-forward": "no kubelet",
    "kubectl wait": "no pod ever starts",
    "helm test": "no pod ever starts",
    "kubectl top": "no metrics-server",
    "optipod run": "does not end by itself",
    "optipod recommender": "does not end by itself",
    "optipod controller": "does not end by itself",
    "optipod recommend ": "asks a recommender",
    "optipod top": "asks a recommender",
    "apt-get install": "changes this machine; .ci/setup does it",
    "skopeo copy": "needs a registry",
    "sha256sum --check": "needs a release",
    "cosign verify": "needs a release",
    "gh attestation": "needs a release",
    "cargo build --release && sudo install": "changes this machine",
}

# Words that stand for something, and what stands here for them.
EXAMPLES = {
    "KIND/NAME": "deployment/checkout",
    "RESOURCE": "pods",
    "BACKUP DIR": "copy restored",
    "DIR": "store",
    "TARGET": "copy",
    "FILE": "samples.csv",
}

# What is there before the first page: workloads, people, a store.
WORLD = """
kubectl config set-context --current --namespace=shop
kubectl create namespace shop
kubectl create serviceaccount ann --namespace shop
kubectl create deployment checkout --namespace shop --image=checkout
optipod store import store samples.csv
"""
SAMPLES = """time_s,namespace,kind,workload,container,pod,cpu_cores,memory_bytes
1700000000,shop,Deployment,checkout,app,checkout-0,0.1,1000
1700000060,shop,Deployment,checkout,app,checkout-0,0.2,2000
"""

INSTALL = "helm upgrade --install optipod deploy/chart --namespace optipod-system --create-namespace"
ESTABLISHED = "kubectl wait --for=condition=Established --timeout=60s crd/optimizationpolicies.optipod.io"
OURS = "clusterroles,clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings"
# Before a section that installs.
REMOVE = f"""
helm uninstall optipod --namespace optipod-system --ignore-not-found
kubectl delete namespace optipod-system --ignore-not-found
kubectl delete {OURS} --selector=app.kubernetes.io/name=optipod
"""
# Before a page's first command.
RESET = f"""
{INSTALL}
{ESTABLISHED}
kubectl delete configmap optipod-brake --namespace optipod-system --ignore-not-found
kubectl annotate namespace/shop optipod.io/hold-
kubectl apply -f policy.yaml
"""
INSTALLS = ("helm install optipod ", "kubectl apply --server-side --kustomize ")


def first_word(command):
    return command.split(maxsplit=1)[0]


def is_command(text):
    return bool(text.strip()) and (first_word(text) in PROGRAMS or text.startswith(FOLDERS))


def lines(block):
    """The commands of a block: with what a backslash continues, and with the text that follows `<<'END'`."""
    found = re.findall(r"(?:^.*<<'END'\n(?:.*\n)*?END$)|(?:^(?:.*\\\n)*.+$)", block, re.MULTILINE)
    return [text for text in found if not text.startswith("#")]


def alternatives(command):
    """`a x|y [-z]` is `a x -z` and `a y -z`."""
    command = re.sub(r"\[(--[^\]]*)\]", r"\1", command)
    choice = re.search(r"\S+\|\S+", command)
    if not choice or "'" in command:
        return [command]
    return [command.replace(choice[0], one) for one in choice[0].split("|")]


def commands(text):
    """The commands of a page or a section, in order. A block that says no language is all commands."""
    found = []
    for match in re.finditer(r"^( *)```(\w*)\n(.*?)^\1```|(?<!`)`([^`]+)`(?!`)", text, re.DOTALL | re.MULTILINE):
        indent, language, block, inline = match.groups()
        if inline:
            inline = " ".join(inline.replace("\\|", "|").split())
            found += alternatives(inline) if is_command(inline) else []
        elif not language:
            found += lines(block.replace("\n" + indent, "\n").strip())
    return found


class Docs:
    """What is tried on one server, and what was wrong."""

    def __init__(self, server, folder, binary):
        self.folder, self.binary, self.problems, self.counts, self.elsewhere = folder, binary, [], {}, set()
        self.cargo = Cargo(ROOT)
        for entry in ROOT.iterdir():
            if entry.name not in ("target", ".git"):
                (folder / entry.name).symlink_to(entry)
        (folder / "target/release").mkdir(parents=True)
        (folder / "bin").mkdir()
        for place in ("target/release/optipod", "bin/optipod"):
            (folder / place).symlink_to(binary)
        (folder / "samples.csv").write_text(SAMPLES)
        policy = re.search(r"```yaml\n(# policy.yaml\n.*?)```", (ROOT / FIRST).read_text(), re.DOTALL)
        (folder / "policy.yaml").write_text(policy[1])
        self.env = dict(server.env, PATH=f"{folder}/bin:{os.environ['PATH']}")

    def run(self, command, cwd=None):
        options = {"cwd": cwd or self.folder, "env": self.env, "stdin": subprocess.DEVNULL, "timeout": 120}
        return subprocess.run(["bash", "-o", "pipefail", "-c", command], text=True, capture_output=True, **options)

    def shell(self, command, cwd=None):
        """What went wrong, or nothing."""
        try:
            done = self.run(command, cwd)
        except subprocess.TimeoutExpired:
            return "it did not end within 120 s"
        return (done.stderr or done.stdout or "it failed").strip() if done.returncode else ""

    def prepare(self, script):
        for command in script.strip().splitlines():
            if problem := self.shell(command):
                sys.exit(f"before the documentation's commands: {command}\n{problem}")

    def page(self, page):
        sections = re.split(r"^(?=## )", (ROOT / page).read_text(), flags=re.MULTILINE)
        sections = [commands(section) for section in sections]
        self.is_ready = page in (FIRST, LAST)
        for section in sections:
            if any(command.startswith(INSTALLS) for command in section):
                self.prepare(REMOVE)
            for command in section:
                how, problem = self.judge(command)
                self.counts[how] = self.counts.get(how, 0) + 1
                if problem:
                    self.problems.append(f"{page}: {command}\n  {problem}")

    def judge(self, command):
        """How a command was tried, and what is wrong with it."""
        program = first_word(command)
        if not is_command(command):
            return "unknown", "not in PROGRAMS; where it is no command, say ```text"
        begin = next((begin for begin in ELSEWHERE if self.named(command).startswith(begin)), None)
        self.elsewhere.add(begin)
        if program == "cargo":
            return "held against the workspace", self.cargo.judge(command)
        if program in ELSEWHERE_ONLY:
            return "left out", "" if begin else "say in ELSEWHERE why it does not run"
        if program == "just":
            return "held against its parser", self.recipe(command.split()[1:])
        if program.startswith(FOLDERS):
            return "found", "" if (ROOT / program).exists() else "there is no such file"
        if begin or self.is_mention(command):
            return "held against its parser", self.parse(command)
        return "run", self.do(command)

    def recipe(self, words):
        if words[:1] == ["soak"] and words[1:] != ["STAGE"]:
            stages = self.run(".ci/soak 2>&1", ROOT).stdout.rsplit("Stages: ")[-1].replace(",", " ").split()
            if not set(words[1:]) <= set(stages):
                return f"the stages of .ci/soak are {stages}"
        return self.shell(f"just --dry-run {shlex.join(words) or '--list'}", ROOT)

    def do(self, command):
        if not self.is_ready:
            self.prepare(RESET)
            self.is_ready = True
        problem = self.shell(self.example(command))
        if command.startswith(INSTALLS) and not problem:
            self.prepare(ESTABLISHED)
        return problem

    @staticmethod
    def example(command):
        for word, example in EXAMPLES.items():
            command = re.sub(rf"\b{word}\b", example, command)
        return command

    @staticmethod
    def named(command):
        return command.replace("target/release/", "") + " "

    @staticmethod
    def is_mention(command):
        """A command without what it is about, as in "`helm upgrade` brings it back"."""
        words = [word for word in command.split() if not word.startswith("-")]
        needed = 3 if words[1:2] == ["store"] else 2
        return len(words) <= needed and command not in ("optipod crd", "optipod uninstall") and "--raw" not in command

    def parse(self, command):
        """Its own parser sees the arguments before it sees `--help`."""
        words = shlex.split(self.example(command).replace("\\\n", " "))
        ends = [i for i, word in enumerate(words) if word in ("|", "<", ">", "&", "--")]
        inner = words[words.index("--") + 1 :] if "--" in words else []
        problem = self.shell(shlex.join([*words[: min(ends, default=len(words))], "--help"]))
        if inner and inner[0] == "/optipod":
            problem = problem or self.parse(shlex.join(["optipod", *inner[1:]]))
        return problem


def main(controlplane, binary):
    with ExitStack() as stack:
        servers, folder = (Path(stack.enter_context(tempfile.TemporaryDirectory())) for _ in range(2))
        server = Server(controlplane, servers, stack)
        server.start_controllers()
        docs = Docs(server, folder, binary)
        docs.prepare(WORLD)
        for page in PAGES:
            docs.page(page)
        docs.problems += docs_names.problems(PAGES, docs)
    docs.problems += [f"ELSEWHERE: no page has `{begin}` any more" for begin in ELSEWHERE if begin not in docs.elsewhere]
    if docs.problems:
        sys.exit("\n".join(docs.problems))
    counts = ", ".join(f"{count} {how}" for how, count in sorted(docs.counts.items(), key=lambda item: -item[1]))
    print(f"the documentation's commands: {counts}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
