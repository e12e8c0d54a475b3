"""Is a table that is there the one that is asked for? What a table was made of stands in its file, beside its rows.

A table of interventions or of pairs is left alone where it is there. It belongs to weights, though, to sentences and to
a seed, and all of them may have changed since: its name alone does not say so.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from addends import tables
from addends.errors import DataError
from addends.runs import existing, sentences, workfolder
from addends.runs.suite import Suite


def made_of(suite: Suite, points: Iterable[tuple[str, int]], work: Path, seed: int) -> dict[str, str]:
    """What a table of these checkpoints is made of: digests, and the seed. Those that are gone are left out.

    For a checkpoint of one run::

        {
            "the seed": "0",
            "the sentences": "c4e0...",             # sha256 of the held-out pairs
            "the weights of 'a' at step 12": "7b21...",
            "the tokenizer of 'a' at step 12": "af21...",
        }

    Parameters
    ----------
    points : iterable of (run, step)
    """
    found = {"the seed": str(seed), "the sentences": workfolder.sentences_sha256(sentences.held_out(suite))}
    for name, step in points:
        source, revision = suite.source_of(suite.run(name), step, work)
        if suite.models or Path(source).exists():
            digests = existing.origin(source, revision)
            found |= {f"the {kind} of {name!r} at step {step}": digests[kind] for kind in ("weights", "tokenizer")}
    return found


def refuse_other(file: Path, table: str, now: dict[str, str]) -> None:
    """Refuse to take a table that is there for the one that is asked for, where it says that it was made otherwise.

    A file that says nothing of it was written before tables did: it is taken as it is.

    Raises
    ------
    DataError
        If the file cannot be read, or was made of something else.
    """
    then = tables.made_of(file, table)
    changed = [name for name, value in now.items() if then and then.get(name) != value]
    if changed:
        raise DataError(
            f"{file} is there, and was made otherwise: {', '.join(changed)}, then {_short(then.get(changed[0]))}, now "
            f"{_short(now[changed[0]])}. --again makes it anew; or name another folder by --data."
        )


def _short(value: str | None) -> str:
    return "none" if value is None else value if len(value) <= 12 else f"{value[:12]}..."
