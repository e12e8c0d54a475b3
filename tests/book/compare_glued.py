"""Compare the numbers that two builds of the book show: ``python tests/book/compare_glued.py BEFORE AFTER``.

BEFORE and AFTER are the folders ``_build/jupyter_execute`` of the two. A page is known by its name without its number,
so that renumbered pages stay the same page. The exit status is 1 where a number differs, is new or is gone.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path


def glued(folder: Path) -> dict[tuple[str, str], str]:
    """What the pages of a build show, by page and name, as text."""
    files = sorted(folder.rglob("*.glue.json"))
    if not files:
        sys.exit(f"{folder} holds no *.glue.json. Give the folder _build/jupyter_execute of a build.")
    found = {}
    for file in files:
        page = re.sub(r"^\d+_", "", file.name.removesuffix(".glue.json"))
        for name, output in json.loads(file.read_text(encoding="utf-8")).items():
            texts = [text for kind, text in output["data"].items() if kind.endswith("text/plain")]
            found[page, name] = "".join(texts[0]) if texts else "(a figure)"
    return found


def main(before: str, after: str) -> int:
    old, new = glued(Path(before)), glued(Path(after))
    gone, come = ({key: one[key] for key in one if key not in other} for one, other in ((old, new), (new, old)))
    renamed = 0
    for (page, name), value in list(gone.items()):
        match = next((key for key in come if key[0] == page and come[key] == value), None)
        if match:
            renamed += 1
            print(f"{page}: {name} is now {match[1]}, {value} still")
            del gone[page, name], come[match]
    changed = [key for key in old if key in new and old[key] != new[key]]
    for page, name in sorted([*changed, *gone, *come]):
        was, now = old.get((page, name), "(absent)"), new.get((page, name), "(absent)")
        print(f"{page}, {name}: {was} -> {now}")
    different = len(changed) + len(gone) + len(come)
    print(f"{len(old)} values before, {len(new)} after: {renamed} have another name, {different} differ")
    return int(different > 0)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
