"""One role of the binary in a cgroup of its own, for `.ci/soak memory-limit`."""
import os, re, subprocess, time, urllib.request
from pathlib import Path

import apiserver

CGROUPS, MIB = Path("/sys/fs/cgroup"), 1 << 20


def bytes_of(quantity):
    number, unit = re.fullmatch(r"(\d+)(Ki|Mi|Gi)?", quantity).groups()
    return int(number) << {None: 0, "Ki": 10, "Mi": 20, "Gi": 30}[unit]


def cgroup(name, limit, stack):
    """A cgroup v2 with this limit and no swap, removed with the stack; None where there can be none."""
    group = CGROUPS / f"optipod-soak-{os.getpid()}-{name}"
    try:
        if "memory" not in (CGROUPS / "cgroup.controllers").read_text().split():
            return None
        (CGROUPS / "cgroup.subtree_control").write_text("+memory")
        group.mkdir()
        stack.callback(group.rmdir)
        (group / "memory.max").write_text(str(limit))
        (group / "memory.swap.max").write_text("0")
    except OSError:
        return None
    return group


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
        enter = ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(self.group / "cgroup.procs")] if self.group else []
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
        until = self.begun + 900  # 300,000 containers, and others at work on the machine
        while not self.get(self.probes_port, "/readyz"):
            if time.monotonic() > until or self.process.poll() is not None:
                raise Ended(self.story())
            time.sleep(0.2)
        return round(time.monotonic() - self.begun, 1)

    def story(self):
        """How it ended, or that it goes on; and its last words."""
        return f"{self.name} is not ready or ended ({self.process.poll()}): {(self.folder / f'{self.name}.log').read_text()[-600:]}"

    def killed_for_memory(self):
        events = (self.group / "memory.events").read_text() if self.group else ""
        return [f"{self.name} was killed for memory {times} times" for times in re.findall(r"^oom_kill ([1-9]\d*)$", events, re.MULTILINE)]

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
            stat = dict(line.split() for line in (self.group / "memory.stat").read_text().splitlines())
            self.most("cgroup_current_mib", int((self.group / "memory.current").read_text()) // MIB)
            self.most("cgroup_anon_mib", int(stat["anon"]) // MIB)
            self.most("cgroup_file_mib", int(stat["file"]) // MIB)
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
            events = dict(line.split() for line in (self.group / "memory.events").read_text().splitlines())
            self.figures |= {"cgroup_peak_mib": int((self.group / "memory.peak").read_text()) // MIB, "reached_the_limit": int(events["max"])}
        elif self.limit and self.figures["peak_rss_mib"] * MIB > self.limit:
            self.findings.append(f"{self.name} had {self.figures['peak_rss_mib']} MiB, and the chart's limit is {self.limit // MIB} MiB")

    def resident(self):
        return round(int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{self.process.pid}/status").read_text())[1]) / 1024, 1)
