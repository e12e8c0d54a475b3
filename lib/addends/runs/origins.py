"""Whose checkpoint is it? What the records of a suite, their chains and the committed table say of given weights.

A record names the one before it by a digest, and that digest covers the record's own run and step. So a record that was
relabelled gives itself away: with the right run and step in it, and only with these, it has the digest that its
successor named.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from addends.runs import lineage
from addends.runs.sharing import MOVED

Place = tuple[str, int]
"""A run and a step of it."""


class Origins:
    """The places at which digests are known.

    >>> first = {"run": "a", "checkpoint": 0, "weights": "5d1c", "previous": ""}
    >>> after = {"run": "a", "checkpoint": 10, "weights": "77ab", "previous": lineage.record_sha256(first)}
    >>> Origins([after], {}, [("a", 0), ("a", 10), ("b", 0)]).by_chain(first | {"run": "b"})  # it was relabelled
    [('a', 0)]

    Parameters
    ----------
    records : iterable of dict
        All that stand in a suite's work folder; empty ones are passed over.
    manifest : dict
        The rows of the committed table: {run: {step: row}}.
    places : iterable of (run, step)
        Those of the suite, whether something stands there or not.
    """

    def __init__(self, records: Iterable[dict], manifest: Mapping[str, Mapping[int, dict]], places: Iterable[Place]):
        rows, known = [row for by_step in manifest.values() for row in by_step.values()], list(filter(None, records))
        self._table, self._recorded = _by_weights(rows), _by_weights(known)
        self._places = list(places)
        # What a run was trained from is in each of its records: that of the last stands for all.
        self._configurations = {
            place_of(record)[0]: record["configuration"]
            for record in sorted(known, key=lambda record: place_of(record)[1])
            if "configuration" in record
        }
        self._named = {str(row["previous"]) for row in (*rows, *known) if row.get("previous")}
        self._digests = {lineage.record_sha256(record): place_of(record) for record in known}

    def in_table(self, weights: str | None) -> bool:
        """Whether the committed table has these weights, at any place."""
        return weights in self._table

    def by_weights(self, weights: str | None, place: Place) -> list[Place]:
        """The other places to which weights belong; none if they belong to ``place``. The table is asked first."""
        for index in (self._table, self._recorded):
            places = index.get(weights or "", [])
            # Starts are shared by right. Elsewhere a record in a wrong place says itself that it belongs there.
            if place in places and (index is self._table or place[1] < MOVED):
                return []
            others = [other for other in places if other != place]
            if others:
                return others
        return []

    def by_chain(self, record: Mapping) -> list[Place]:
        """The places at which a record would have the digest that a successor named: where it stood."""
        found = []
        for run, step in self._places if record else ():
            moved = {**record, "run": run, "checkpoint": step}
            if run in self._configurations and run != record.get("run"):
                moved["configuration"] = self._configurations[run]
            if (run, step) != place_of(record) and lineage.record_sha256(moved) in self._named:
                found.append((run, step))
        return found

    def named(self, digest: str | None) -> Place | None:
        """The place of the record that has a digest, or None."""
        return self._digests.get(str(digest))


def place_of(record: Mapping) -> Place:
    """The run and the step that a record names; -1 stands for what is no step."""
    step = record.get("checkpoint")
    return str(record.get("run", "")), step if isinstance(step, int) else -1


def _by_weights(rows: Iterable[Mapping]) -> dict[str, list[Place]]:
    index: dict[str, list[Place]] = {}
    for row in rows:
        places = index.setdefault(str(row.get("weights", "")), [])
        places += [place_of(row)] if place_of(row) not in places else []
    return index
