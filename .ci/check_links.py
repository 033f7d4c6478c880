#!/usr/bin/env python3
"""Every link in the Markdown files leads to a file that is there, and to a heading that it has. Addresses elsewhere are not asked."""
import re, subprocess, sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@cache
def anchors(path):
    """The headings of a file, as links name them."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def problems(path):
    for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        if not target.exists():
            yield f"{path.relative_to(ROOT)}: there is no {link}"
        elif anchor and anchor not in anchors(target):
            yield f"{path.relative_to(ROOT)}: {link}: no such heading"


listed = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, text=True, stdout=subprocess.PIPE, check=True).stdout
files = [ROOT / name for name in listed.split()]
found = [problem for path in files for problem in problems(path)]
if found:
    sys.exit("\n".join(found))
print(f"the links of {len(files)} files lead somewhere")
