"""Every flag, variable, setting, chart value, policy field and metric that the documentation names is there."""
import json, re, shlex

import yaml
from apiserver import ROOT

# Of other programs and objects.
OTHERS = {
    "--serve": "of the tests on a cluster",
    "--acked": "of the torture program",
    "--oom-bump-up-ratio": "VPA's",
    "apiVersion": "every object's",
    "honor_labels": "Prometheus'",
    "pods.metrics.k8s.io": "a resource",
    "restartPolicy": "a container's",
    "spec.paused": "a Deployment's",
    "spec.resources": "a pod's",
    "tls.crt": "a Secret's",
    "updateMode": "VPA's",
    "workloads.yaml": "a file of a release",
}

PROGRAMS = r"kubectl|helm|optipod"


def paths(schema, definitions=None, prefix=""):
    """Each property of a JSON schema, as `a.b.c`."""
    definitions = schema.get("$defs", {}) if definitions is None else definitions
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rsplit("/", 1)[1]]
    found = set()
    for part in (schema, schema.get("items", {}), *schema.get("anyOf", [])):
        for name, inner in part.get("properties", {}).items():
            found |= {prefix + name} | paths(inner, definitions, f"{prefix}{name}.")
        if isinstance(part.get("additionalProperties"), dict):
            found |= {f"{prefix}*"}
    return found


def settings():
    return set(re.findall(r"^\| `([\w.]+)`", (ROOT / "docs/reference/settings.md").read_text(), re.MULTILINE))


def fields():
    """The policy's fields: from the object's root, and as people write them, from `spec` and `status` on."""
    crd = yaml.safe_load((ROOT / "crds/optimizationpolicies.optipod.io.yaml").read_text())
    all = paths(crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"])
    short = {path.split(".", 1)[1] for path in all if path.startswith(("spec.", "status."))}
    entries = {path.split(".", 1)[1] for path in short if path.startswith("workloads.")}
    return all | short | entries


def values():
    return paths(json.loads((ROOT / "deploy/chart/values.schema.json").read_text()))


def flags(text, docs):
    """The flags of our program, and of those commands of other programs that the documentation has."""
    called = set(re.findall(rf"\b({PROGRAMS}) ((?:[a-z][a-z-]* ?){{1,2}})", text))
    called |= {("optipod", command) for command in ("run", "store verify", "store restore", "uninstall")}
    helps = [docs.run(f"{program} {words} --help").stdout for program, words in sorted(called)]
    return set(re.findall(r"(?<![\w-])--[a-z][\w-]*", "\n".join(helps)))


def named_flags(inline):
    """Of code that is no command: `--flag`. Those of commands are seen by their programs."""
    return {word for code in inline if code.startswith("--") for word in re.findall(r"--[a-z][\w-]*", code)}


def named_keys(inline, known):
    """`a.b`, where `a` is one of ours, and whatever is given a value, as in `a: b`."""
    heads, found = {path.split(".")[0] for path in known}, set()
    for code in inline:
        match = re.fullmatch(r"([a-z]\w*(?:\.\w+)*(?<!\.rs))(: .*)?", code)
        if match and (match[2] or "." in code and code.split(".")[0] in heads):
            found.add(match[1])
    return found


def problems(pages, docs):
    text = "\n".join((ROOT / page).read_text() for page in pages)
    inline = [" ".join(code.split()) for code in re.findall(r"(?<!`)`([^`]+)`(?!`)", re.sub(r"```.*?```", "", text, flags=re.DOTALL))]
    known = settings() | values() | fields()
    leaves = {path.split(".")[-1] for path in known}
    keys = {key for key in named_keys(inline, known) if key not in known and ("." in key or key not in leaves)}
    folders = [ROOT / folder for folder in ("src", "storage", "tests", "demo", "benches")]
    sources = "\n".join(path.read_text() for folder in folders for path in folder.rglob("*.*") if path.suffix in (".rs", ".py"))
    missing = named_flags(inline) - flags(text, docs) | keys
    missing |= {name for name in re.findall(r"\b(?:OPTIPOD|optipod)_[A-Za-z_]*[A-Za-z]\b", text) if name not in sources}
    found = [f"there is no {name}, which the documentation names" for name in sorted(missing - OTHERS.keys())]
    found += [f"OTHERS: no page names {name} any more" for name in sorted(OTHERS.keys() - missing)]
    for settings_of_chart in sorted({code for code in inline if code.startswith("--set ")}):
        words = shlex.join(shlex.split(settings_of_chart.replace("…", "example")))
        if problem := docs.shell(f"helm template optipod deploy/chart {words}"):
            found.append(f"{settings_of_chart}: {problem}")
    for policy in re.findall(r"```yaml\n(apiVersion: optipod.*?)```", text, re.DOTALL):
        if problem := docs.shell(f"kubectl apply --dry-run=server -f - <<'END'\n{policy}\nEND"):
            found.append(f"{policy}: {problem}")
    return found
