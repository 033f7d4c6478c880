"""One role of the binary in a cgroup of its own, for `.ci/soak memory-limit`."""
import os, re, subprocess, time, urllib.request
from pathlib import Path

import apiserver

CGROUPS, MIB = Path("/sys/fs/cgroup"), 1 << 20


def bytes_of(quantity):
    number, unit = re.fullmatch(r"(\d+)(Ki|Mi|Gi)?", quantity).groups()
    return int(number) << {None: 0, "Ki": 10, "Mi": 20, "Gi": 30}[unit]


class Cgroup:
    """A cgroup with this limit of memory and no swap, removed with the stack. Of version 1 where the memory controller is there."""

    FILES = {
        2: {"limit": "memory.max", "current": "memory.current", "peak": "memory.peak", "kills": "memory.events", "anon": "anon", "file": "file"},
        1: {"limit": "memory.limit_in_bytes", "current": "memory.usage_in_bytes", "peak": "memory.max_usage_in_bytes",
            "kills": "memory.oom_control", "anon": "total_rss", "file": "total_cache"},
    }  # fmt: skip

    def __init__(self, name, limit, stack):
        """OSError where there can be none."""
        first = CGROUPS / "memory"
        self.version, parent = (1, first) if (first / "memory.limit_in_bytes").exists() else (2, CGROUPS)
        self.files, self.path = self.FILES[self.version], parent / f"optipod-soak-{os.getpid()}-{name}"
        if self.version == 2:
            (parent / "cgroup.subtree_control").write_text("+memory")
        self.path.mkdir()
        stack.callback(self.path.rmdir)
        (self.path / self.files["limit"]).write_text(str(limit))
        without_swap = "memory.swap.max" if self.version == 2 else "memory.swappiness"
        (self.path / without_swap).write_text("0")

    def __getitem__(self, what):
        """`current` and `peak` in bytes."""
        return int((self.path / self.files[what]).read_text())

    def table(self, file):
        return dict(line.split() for line in (self.path / file).read_text().splitlines())

    def part(self, what):
        """`anon` or `file`, in bytes."""
        return int(self.table("memory.stat")[self.files[what]])

    def kills(self):
        return int(self.table(self.files["kills"])["oom_kill"])

    def limit_reached(self):
        """How often: it then gave back page cache, or was killed."""
        return int(self.table("memory.events")["max"] if self.version == 2 else (self.path / "memory.failcnt").read_text())


def cgroup(name, limit, stack):
    """None where there can be none."""
    try:
        return Cgroup(name, limit, stack)
    except OSError:
        return None


class Ended(Exception):
    """A role that is not there, or never became ready."""


class Role:
    """One role of the binary, over all its lives."""

    def __init__(self, name, command, environment, folder, group, limit):
        self.name, self.command, self.folder, self.group, self.limit = name, command, folder, group, limit
        self.environment, self.metrics_port, self.probes_port = environment, apiserver.free_port(), apiserver.free_port()
        self.process, self.figures, self.findings, self.spent, self.alive = None, {}, [], 0.0, 0.0

    def start(self):
        listen = [f"--metrics-addr=127.0.0.1:{self.metrics_port}", f"--health-probe-bind-address=127.0.0.1:{self.probes_port}"]
        enter = ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(self.group.path / "cgroup.procs")] if self.group else []
        self.begun, self.cpu = time.monotonic(), 0.0
        with open(self.folder / f"{self.name}.log", "a") as log:
            self.process = subprocess.Popen([*enter, *self.command, *listen], env=self.environment, stdout=log, stderr=log)

    def get(self, port, path):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
                return answer.read().decode()
        except OSError:
            return ""

    def metric(self, series):
        found = re.search(rf"^{re.escape(series)} (\S+)$", self.get(self.metrics_port, "/metrics"), re.MULTILINE)
        return float(found[1]) if found else 0.0

    def wait_ready(self):
        """How many seconds it takes."""
        until = self.begun + 900  # 300,000 containers on a busy machine
        while not self.get(self.probes_port, "/readyz"):
            if time.monotonic() > until or self.process.poll() is not None:
                raise Ended(self.story())
            time.sleep(0.2)
        return round(time.monotonic() - self.begun, 1)

    def story(self):
        """How it ended, or that it goes on; and its last words."""
        return f"{self.name} is not ready or ended ({self.process.poll()}): {(self.folder / f'{self.name}.log').read_text()[-600:]}"

    def killed_for_memory(self):
        kills = self.group.kills() if self.group else 0
        return [f"{self.name} was killed for memory {kills} times"] if kills else []

    def most(self, figure, value):
        self.figures[figure] = max(self.figures.get(figure, 0), value)

    def sample(self):
        """Notes memory and processor time; whether the process is there."""
        if self.process.poll() is not None:
            return False
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        for figure, name in [("peak_rss_mib", "VmHWM"), ("anon_mib", "RssAnon"), ("file_mib", "RssFile")]:
            found = re.search(rf"{name}:\s+(\d+)", status)
            self.most(figure, round(int(found[1]) / 1024, 1) if found else 0)
        ticks = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(") ", 1)[1].split()[11:13]
        self.cpu = sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
        if self.group:
            self.most("cgroup_current_mib", self.group["current"] // MIB)
            self.most("cgroup_anon_mib", self.group.part("anon") // MIB)
            self.most("cgroup_file_mib", self.group.part("file") // MIB)
        return True

    def kill(self):
        self.sample()
        self.process.kill()
        self.process.wait()
        self.spent += self.cpu
        self.alive += time.monotonic() - self.begun

    def end(self):
        """Its figures, after its last life."""
        self.figures["rss_mib_at_the_end"] = self.resident()
        self.kill()
        self.figures |= {"cpu_seconds": round(self.spent, 1), "cpu_percent_of_a_core": round(100 * self.spent / self.alive, 1)}
        if self.group:
            self.figures |= {"cgroup_peak_mib": self.group["peak"] // MIB, "reached_the_limit": self.group.limit_reached()}
        elif self.limit and self.figures["peak_rss_mib"] * MIB > self.limit:
            self.findings.append(f"{self.name} had {self.figures['peak_rss_mib']} MiB, and the chart's limit is {self.limit // MIB} MiB")

    def resident(self):
        return round(int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{self.process.pid}/status").read_text())[1]) / 1024, 1)
