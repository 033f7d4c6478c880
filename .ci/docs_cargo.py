"""Whether cargo would take a command of the documentation: its flags, packages, targets, and that a filter finds tests."""
import json, re, subprocess

KINDS = {"--test": "test", "--bench": "bench", "--example": "example", "--bin": "bin"}
# Programs of their own, which .ci/setup installs.
PLUGINS = {"deny"}


class Cargo:
    def __init__(self, root):
        self.root = root
        said = self.run("metadata", "--no-deps", "--format-version=1")
        self.packages = {package["name"]: package["targets"] for package in json.loads(said.stdout)["packages"]}

    def run(self, *words):
        return subprocess.run(["cargo", *words], cwd=self.root, text=True, capture_output=True, timeout=120)

    def judge(self, command):
        """What is wrong with it, or nothing."""
        command = re.split(r" && | +#", command)[0]
        before, _, after = command.partition(" -- ")
        words = before.split()[1:]
        if words[0] in PLUGINS:
            return ""
        parsed = self.run(*words, "-h")
        return parsed.stderr.strip() if parsed.returncode else self.target(words, after.split())

    def target(self, words, after):
        options = dict(zip(words, words[1:]))
        package = options.get("-p")
        if package and package not in self.packages:
            return f"there is no package {package}"
        targets = self.packages[package] if package else [one for all in self.packages.values() for one in all]
        place = "src"
        for option, kind in KINDS.items():
            if option not in options:
                continue
            found = [one for one in targets if one["name"] == options[option] and kind in one["kind"]]
            if not found:
                return f"there is no {kind} {options[option]}"
            place = found[0]["src_path"].rsplit("/", 1)[0]
        if words[0] != "test":
            return ""
        # What is no option nor an option's value, and NAME is any name.
        filters = [b for a, b in zip(words, words[1:]) if not b.startswith("-") and a not in (*KINDS, "-p")]
        filters += [word for word in after if not word.startswith("-")]
        missing = [word for word in filters if word != "NAME" and not self.is_in(word, place)]
        return f"no test in {place} has {missing[0]} in its name" if missing else ""

    def is_in(self, word, place):
        """A module or a function of that name."""
        files = [path for path in (self.root / place).rglob("*.rs")]
        in_path = any(word in str(path.relative_to(self.root / place)) for path in files)
        return in_path or any(re.search(rf"\bfn \w*{re.escape(word)}", path.read_text()) for path in files)
