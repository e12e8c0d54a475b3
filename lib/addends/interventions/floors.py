"""What ranks source tokens without the model: the floors that stand beside attributions.

    random      u ~ U(0, 1)                        drawn by the seed and by the sentence's own ids
    diagonal    1 - |i / n - t / m|                place i of n source tokens, row t of m, counted from 0
    rarity      -log((c + 1) / (N + 1))            c: how often the source's piece occurs in a corpus of N pieces

None of them is negative: their size is their value. A method that ranks no better than these tells nothing of the
model. The diagonal knows that languages are read from left to right, rarity that frequent pieces say little.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from transformers import PreTrainedModel

from addends.checks import check_count
from addends.decomposition import Batch
from addends.errors import InputError
from addends.interventions.attributions import source_frame
from addends.interventions.reading import Reading
from addends.interventions.source_pass import pair_reading

FLOORS = ("random", "diagonal", "rarity")


def source_floors(
    model: PreTrainedModel,
    batch: Batch,
    counts: Mapping[int, int],
    seed: int = 0,
    special_ids: Sequence[int] | None = None,
) -> pd.DataFrame:
    """What chance, place and frequency say of each source token for each row that counts.

    Parameters
    ----------
    model : PreTrainedModel
        An encoder-decoder. It is not run: it says which rows count.
    batch : Batch
        With labels. No number depends on which other sentences are in it.
    counts : mapping of int to int
        How often each piece occurs as a source piece of some corpus; pieces that it lacks occur 0 times.
    seed : int
        Of "random".
    special_ids : sequence of int, optional
        As for `source_attributions`.

    Returns
    -------
    DataFrame
        The columns and places of `source_attributions`; the methods are `FLOORS`.

    Raises
    ------
    InputError
        If a count is negative or no whole number, the seed is, or as `source_attributions`.

    Examples
    --------
    >>> from addends.interventions import source_floors
    >>> frame = source_floors(model, batch, counts={2: 8})
    >>> frame["method"].unique().tolist(), len(frame)  # 5 rows x 4 source tokens, three times
    (['random', 'diagonal', 'rarity'], 60)
    """
    check_count("seed", seed, "source_floors", least=0)
    wrong = {piece: count for piece, count in counts.items() if not _is_count(count)}
    if wrong:
        piece, count = next(iter(wrong.items()))
        raise InputError(f"source_floors: counts[{piece!r}]={count!r}: whole numbers of 0 or more are wanted.")
    reading = pair_reading(model, batch)
    values = {"random": _random(reading, seed), "diagonal": _diagonal(reading), "rarity": _rarity(reading, counts)}
    return source_frame(reading, special_ids, "method", "value", values)


def _is_count(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and bool(value >= 0)


def _random(reading: Reading, seed: int) -> torch.Tensor:
    """Uniform numbers, (sentence, position, source): those of a sentence depend on its real tokens alone."""
    (labels, mask), ids, real = reading.labelled, reading.batch.input_ids, reading.batch.attention_mask.bool()
    result = torch.zeros(*mask.shape, ids.shape[1], dtype=torch.float64, device=ids.device)
    for sentence in range(len(ids)):
        rows, places = mask[sentence].nonzero()[:, 0], real[sentence].nonzero()[:, 0]
        own = [seed, len(places), *ids[sentence, places].tolist(), *labels[sentence, rows].tolist()]
        drawn = torch.from_numpy(np.random.default_rng(own).random((len(rows), len(places))))
        result[sentence, rows[:, None], places] = drawn.to(result)
    return result


def _diagonal(reading: Reading) -> torch.Tensor:
    """One less the distance of relative places, (sentence, position, source)."""
    row, source = (_relative(mask) for mask in (reading.labelled[1], reading.batch.attention_mask.bool()))
    return 1 - (source[:, None, :] - row[:, :, None]).abs()


def _relative(mask: torch.Tensor) -> torch.Tensor:
    """The place of each real token among the real ones, counted from 0, over their number: (sentence, position)."""
    return (mask.cumsum(dim=1) - 1).double() / mask.sum(dim=1, keepdim=True).clamp(min=1)


def _rarity(reading: Reading, counts: Mapping[int, int]) -> torch.Tensor:
    """Minus the log of how often each source piece occurs, the same in every row: (sentence, position, source)."""
    ids, total = reading.batch.input_ids, sum(counts.values())
    of_each = [[-np.log((counts.get(piece, 0) + 1) / (total + 1)) for piece in sentence] for sentence in ids.tolist()]
    found = torch.tensor(of_each, dtype=torch.float64, device=ids.device)  # (sentence, source)
    return found[:, None, :].expand(-1, reading.labelled[1].shape[1], -1)
