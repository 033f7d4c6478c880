#!/usr/bin/env python3
"""What .ci/deploy asks of rendered manifests: `schemas`, `rights` and `findings`."""
import fnmatch, json, sys
from pathlib import Path

import jsonschema, yaml

# Described by no Kubernetes version: other projects' kinds.
FOREIGN = {"cert-manager.io", "monitoring.coreos.com"}


def objects(path):
    """The objects in a file of YAML documents."""
    return [document for document in yaml.safe_load_all(Path(path).read_text()) if document]


def named(thing):
    """An object as messages name it."""
    return f"{thing['kind']} {thing['metadata']['name']}"


def strict(swagger):
    """The definitions as JSON schemas in which an unknown field is an error."""
    definitions = swagger["definitions"]
    for name, definition in definitions.items():
        if "properties" in definition:
            definition.setdefault("additionalProperties", False)
        if definition.get("format") == "int-or-string" or name.endswith(".resource.Quantity"):
            definition["type"] = ["string", "number"]
    kinds = {}
    for name, definition in definitions.items():
        for kind in definition.get("x-kubernetes-group-version-kind", []):
            kinds["/".join(filter(None, (kind["group"], kind["version"], kind["kind"])))] = name
    return definitions, kinds


def schemas(folder, *rest):
    """Each object of the files against the API of each version."""
    versions, files = rest[: rest.index("--")], rest[rest.index("--") + 1 :]
    problems, checked = [], 0
    for version in versions:
        definitions, kinds = strict(json.loads((Path(folder) / f"{version}.json").read_text()))
        for file in files:
            for thing in objects(file):
                if thing["apiVersion"].split("/")[0] in FOREIGN:
                    continue
                where, checked = f"Kubernetes {version}, {Path(file).name}, {named(thing)}", checked + 1
                name = kinds.get(f"{thing['apiVersion']}/{thing['kind']}")
                if name is None:
                    problems.append(f"{where}: {thing['apiVersion']} is not served")
                    continue
                schema = {"$ref": f"#/definitions/{name}", "definitions": definitions}
                for error in jsonschema.Draft4Validator(schema).iter_errors(thing):
                    problems.append(f"{where}: {error.json_path}: {error.message[:200]}")
    done(problems, f"{checked} objects fit the API of Kubernetes {', '.join(versions)}")


def roles(path):
    """Who may do what: the rules of each role, and whom each binding means."""
    found = {}
    for thing in objects(path):
        if thing["metadata"].get("annotations", {}).get("helm.sh/hook"):
            continue
        if thing["kind"] in ("Role", "ClusterRole"):
            found[named(thing)] = sorted(json.dumps(rule, sort_keys=True) for rule in thing["rules"])
        elif thing["kind"] in ("RoleBinding", "ClusterRoleBinding"):
            found[named(thing)] = [thing["roleRef"], thing["subjects"]]
    return found


def rights(written, full, recommend_only):
    """The chart grants what rbac.yaml says, which the tests run under; recommend-only changes no workload and no pod."""
    written, full, problems = roles(written), roles(full), []
    for name in sorted(written.keys() | full.keys()):
        if written.get(name) != full.get(name):
            problems.append(f"{name}: deploy/rbac.yaml has {written.get(name)}, the chart {full.get(name)}")
    may_patch = {"optimizationpolicies/status", "events", "leases"}
    for thing in objects(recommend_only):
        for rule in thing.get("rules", []) if thing["kind"] in ("Role", "ClusterRole") else []:
            changes = {"patch", "update", "delete", "*"} & set(rule["verbs"])
            if changes and not set(rule["resources"]) <= may_patch:
                problems.append(f"recommend-only, {named(thing)}: may {changes} {rule['resources']}")
    done(problems, f"{len(full)} roles and bindings are as in deploy/rbac.yaml")


def findings(report, exceptions):
    """What checkov found is explained, and every explanation is needed."""
    lines = Path(exceptions).read_text().splitlines()
    rules = [line.split(maxsplit=2) for line in lines if line and not line.startswith("#")]
    used, problems = set(), []
    report = json.loads(Path(report).read_text())
    for failed in report["results"]["failed_checks"]:
        check, subject = failed["check_id"], failed["resource"]
        matching = [i for i, rule in enumerate(rules) if rule[0] == check and fnmatch.fnmatch(subject, rule[1])]
        used.update(matching)
        if not matching:
            problems.append(f"{failed['file_path']}, {subject}: {check} {failed['check_name']}")
    problems += [f"{exceptions}: nothing to explain: {' '.join(rule)}" for i, rule in enumerate(rules) if i not in used]
    summary = report["summary"]
    done(problems, f"checkov: {summary['passed']} passed, {summary['failed']} explained")


def done(problems, text):
    """Ends with the problems, or says what was found good."""
    if problems:
        sys.exit("\n".join(problems))
    print(text)


if __name__ == "__main__":
    {"schemas": schemas, "rights": rights, "findings": findings}[sys.argv[1]](*sys.argv[2:])
