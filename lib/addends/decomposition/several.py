"""Several models measured on the same sentences: runs that differ in their seeds, or checkpoints of one run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from addends.decomposition.languages import set_languages
from addends.decomposition.loading import load
from addends.decomposition.measure import measure
from addends.errors import InputError
from addends.provenance import content_sha256


def measure_models(
    names: Sequence[str],
    sources: Sequence[str],
    targets: Sequence[str] | None = None,
    *,
    revision: str | None = None,
    dtype: str = "float32",
    device: str = "cpu",
    languages: tuple[str | None, str | None] = (None, None),
    progress: bool = True,
    **generate_kwargs: Any,
) -> pd.DataFrame:
    """`measure` on each of several models, one in memory at a time.

    Parameters
    ----------
    names : sequence of str
        Two folders or names or more, as for `load`. With ``revision``, names on the Hub, all at that revision.
    sources, targets, progress
        As for `measure`. Without targets every model reads its own translations, and models differ in these too.
    dtype, device
        As for `load`.
    languages : pair of str or None
        Source and target, as for `set_languages`.
    **generate_kwargs
        As for `measure`.

    Returns
    -------
    DataFrame
        The columns of `measure`, after ``model`` (its name, as given) and ``weights`` (their SHA-256).

    Raises
    ------
    InputError
        If there are fewer than two models, one is named twice, two have the same weights, or two differ in layers or
        terms; and as `load` and `measure` do.
    """
    if len(names) < 2 or len(set(names)) < len(names):
        raise InputError(f"names={list(names)}: two different models or more are wanted.")
    frames: list[pd.DataFrame] = []
    by_weights: dict[str, str] = {}
    for name in names:
        model, tokenizer = load(name, revision, dtype, device)
        weights = content_sha256(model.state_dict())
        if weights in by_weights:
            raise InputError(
                f"The models {by_weights[weights]!r} and {name!r} have the same weights, value by value: one model "
                "twice adds nothing. Leave one out, or name the folder that was meant."
            )
        by_weights[weights] = name
        translation = {**set_languages(tokenizer, *languages), **generate_kwargs}
        frame = measure(model, tokenizer, sources, targets, progress=progress, **translation)
        if frames:
            _refuse_other(names[0], frames[0], name, frame)
        frames.append(frame)
    labelled = zip(by_weights.items(), frames, strict=True)
    joined = [frame.assign(model=name, weights=weights) for (weights, name), frame in labelled]
    whole = pd.concat(joined, ignore_index=True)
    return whole[["model", "weights", *frames[0].columns]]


def _refuse_other(first: str, one: pd.DataFrame, name: str, two: pd.DataFrame) -> None:
    """Refuse a model whose layers or terms are not those of the first: what would be compared differs in kind."""
    cells = [frame[["by", "layer", "term"]].drop_duplicates() for frame in (one, two)]
    if not cells[0].reset_index(drop=True).equals(cells[1].reset_index(drop=True)):
        layers = [int(frame["layer"].max()) for frame in (one, two)]
        terms = [", ".join(dict.fromkeys(frame["term"])) for frame in (one, two)]
        raise InputError(
            f"The models {first!r} and {name!r} differ in kind: {layers[0]} and {layers[1]} layers, terms {terms[0]} "
            f"and {terms[1]}. Compare models of one architecture and size."
        )
