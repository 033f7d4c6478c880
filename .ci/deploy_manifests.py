#!/usr/bin/env python3
"""What .ci/deploy asks of rendered manifests: `schemas`, `rights`, `around` and `findings`."""
import fnmatch, json, sys
from pathlib import Path

import jsonschema, yaml


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


def tightened(schema):
    """A CRD's schema in which an unknown field is an error."""
    schema = {key: value for key, value in schema.items() if key != "format"}
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    if "properties" in schema:
        schema["properties"] = {name: tightened(inner) for name, inner in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            schema["additionalProperties"] = False
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            schema[key] = tightened(schema[key])
    return schema


def others(folder):
    """The schemas of other projects' kinds, from their CRDs in this folder."""
    found = {}
    for path in sorted(Path(folder).glob("*.yaml")):
        for crd in objects(path):
            for version in crd["spec"]["versions"]:
                schema = tightened(version["schema"]["openAPIV3Schema"])
                schema["properties"]["metadata"] = {"type": "object"}
                found[f"{crd['spec']['group']}/{version['name']}/{crd['spec']['names']['kind']}"] = schema
    return found


def schemas(folder, *rest):
    """Each object of the files against the API of each version, and against the CRDs of other projects."""
    versions, files = rest[: rest.index("--")], rest[rest.index("--") + 1 :]
    problems, checked, foreign, seen = [], 0, others(Path(folder) / "crds"), set()
    for version in versions:
        definitions, kinds = strict(json.loads((Path(folder) / f"{version}.json").read_text()))
        for file in files:
            for thing in objects(file):
                where, checked = f"Kubernetes {version}, {Path(file).name}, {named(thing)}", checked + 1
                kind = f"{thing['apiVersion']}/{thing['kind']}"
                if kind in foreign:
                    seen.add(kind)
                    schema = foreign[kind]
                elif kind in kinds:
                    schema = {"$ref": f"#/definitions/{kinds[kind]}", "definitions": definitions}
                else:
                    problems.append(f"{where}: {kind} is not served")
                    continue
                for error in jsonschema.Draft4Validator(schema).iter_errors(thing):
                    problems.append(f"{where}: {error.json_path}: {error.message[:200]}")
    problems += [f"nothing that is rendered is a {kind}" for kind in sorted(foreign.keys() - seen)]
    done(problems, f"{checked} objects fit the API of Kubernetes {', '.join(versions)}, and {', '.join(sorted(seen))}")


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


def around(*files):
    """What stands around the pods of each role: one NetworkPolicy, and a PodDisruptionBudget where it blocks no drain."""
    problems, checked = [], 0
    for file in files:
        things = objects(file)
        config = next(yaml.safe_load(thing["data"]["config.yaml"]) for thing in things if thing["kind"] == "ConfigMap")
        for role in (thing for thing in things if thing["kind"] in ("Deployment", "StatefulSet")):
            pod, where, checked = role["spec"]["template"], f"{Path(file).name}, {named(role)}", checked + 1
            labels = pod["metadata"]["labels"].items()
            of = lambda kind, key: [t["spec"] for t in things if t["kind"] == kind and t["spec"][key]["matchLabels"].items() <= labels]
            policies, budgets = of("NetworkPolicy", "podSelector"), of("PodDisruptionBudget", "selector")
            if len(budgets) != (role["spec"]["replicas"] > 1):
                problems.append(f"{where}: {role['spec']['replicas']} replicas and {len(budgets)} PodDisruptionBudgets")
            if len(policies) != 1:
                problems.append(f"{where}: {len(policies)} NetworkPolicies")
                continue
            # Where a Prometheus is cannot be known, so that egress is open until somebody says.
            is_open = {"prometheus", "custom"} & config.keys() and "egress" not in policies[0]
            if policies[0]["policyTypes"] != ["Ingress"] + ([] if is_open else ["Egress"]):
                problems.append(f"{where}: its NetworkPolicy is for {policies[0]['policyTypes']}")
            ports = {port["name"] for port in pod["spec"]["containers"][0]["ports"]}
            for rule in policies[0]["ingress"]:
                named_ports = {port["port"] for port in rule["ports"]}
                if not named_ports <= ports or "probes" in named_ports or "grpc" in named_ports and not rule.get("from"):
                    problems.append(f"{where}: lets in to {named_ports} from {rule.get('from', 'everywhere')}")
    done(problems, f"{checked} roles have their NetworkPolicy, and a PodDisruptionBudget with two replicas or more only")


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
    {"schemas": schemas, "rights": rights, "around": around, "findings": findings}[sys.argv[1]](*sys.argv[2:])
