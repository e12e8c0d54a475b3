"""Does an indicator go with quality from sentence to sentence, or only from checkpoint to checkpoint?

What was released are correlations over pairs of single sentences, of ten checkpoints together. They are derived here,
and beside them stands what is left of them within checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats
from tqdm.auto import tqdm

from addends.checks import group_names, keyed_numbers, require_distinct, rounding_of
from addends.errors import InputError
from addends.replication.released import ALL_TERMS
from addends.replication.released_analyses import beside
from addends.replication.series import is_constant
from addends.statistics.correlation import whole
from addends.tables import INDICATORS

KEY = ["by", "run", "layer", "term", "indicator", "metric"]
COMET_DECIMALS = 4
FEWEST_ITEMS = 3
FEWEST_SENTENCES = 4


def correlate_sentences(
    frame: pd.DataFrame, indicator: str, quality: str, by: str | Sequence[str] = ("run", "layer", "term")
) -> pd.DataFrame:
    """Spearman correlation of an indicator and quality over sentences: pooled over checkpoints, and within them.

    With r_k the correlation over the sentences of checkpoint k, of K checkpoints where it is defined::

        rho_pooled = r over all (checkpoint, sentence) items together
        rho_within = (r_1 + ... + r_K) / K

    ``rho_pooled`` mixes two questions: early checkpoints translate badly and have other indicators than late ones, so
    it is large wherever both change during training, even if within no checkpoint the two have anything to do with each
    other. ``rho_within`` compares sentences that one and the same model translated. ``rho_between`` is what is
    compared in between: the correlation of the checkpoints' means.

    Parameters
    ----------
    frame : DataFrame
        One row a group, "checkpoint" and "sentence".
    indicator, quality : str
        Columns of numbers; a sentence that lacks one of them is left out, and counted in ``missing``.
    by : sequence of str
        The columns that name a group.

    Returns
    -------
    DataFrame
        One row a group: ``by``, rho_pooled, rho_within, rho_between, smallest and largest (of the r_k), checkpoints
        (K), sentences (items used), missing, note. A coefficient that is undefined is missing, never 0; ``note`` counts
        the checkpoints where either of the two is constant or has fewer than 4 sentences, and says why rho_pooled or
        rho_between is missing (fewer than 4 checkpoints, say).

    Raises
    ------
    InputError
        If a column is unknown, a value infinite, a name missing, or a group, checkpoint and sentence stand twice.
    """
    where = "correlate_sentences"
    by = group_names(by, where)
    key = [*by, "checkpoint", "sentence"]
    require_distinct([*key, indicator, quality], where, "by, 'checkpoint', 'sentence', indicator and quality")
    columns = keyed_numbers(frame, key, [indicator, quality], where)
    rounding = [rounding_of(frame[name]) for name in (indicator, quality)]
    checkpoint = frame["checkpoint"].to_numpy()
    rows = []
    for name, positions in frame.groupby(by, sort=True, observed=True).indices.items():
        name = name if isinstance(name, tuple) else (name,)
        x, q = columns[indicator][positions], columns[quality][positions]
        there = ~(np.isnan(x) | np.isnan(q))
        found = _coefficients(checkpoint[positions][there], x[there], q[there], rounding)
        rows.append({**dict(zip(by, name, strict=True)), **found, "missing": int((~there).sum())})
    columns_in_order = [*by, "rho_pooled", "rho_within", "rho_between", "smallest", "largest", "checkpoints"]
    return pd.DataFrame(rows)[[*columns_in_order, "sentences", "missing", "note"]]


class Items(NamedTuple):
    """One indicator over the items of a run, beside their COMET, in the order of the released file.

    The importance of two terms in three items:

    >>> about = {"by": "token", "run": "sla-eng", "layer": 6, "place": [1, 0, 2], "comet": [0.795, 0.8123, 0.8311]}
    >>> indicators = {"cosine": 0.5, "norm_ratio": 0.5, "distance": 9.0}
    >>> frames = [
    ...     pd.DataFrame(about | indicators | {"term": term, "importance": importance})
    ...     for term, importance in {"S": [0.4, 0.7, 0.6], "T": [0.6, 0.3, 0.4]}.items()
    ... ]
    >>> items = in_order_of_place(pd.concat(frames))[0]
    >>> items.names
    {'by': 'token', 'run': 'sla-eng', 'layer': 6, 'indicator': 'importance'}
    >>> items.x  # of each term, of shape (item,)
    {'S': array([0.7, 0.4, 0.6]), 'T': array([0.3, 0.6, 0.4])}
    >>> items.comet  # in whole units of the fourth decimal, so that equal changes tie
    array([8123., 7950., 8311.])
    """

    names: dict[str, object]
    x: dict[str, np.ndarray]
    comet: np.ndarray


def by_term(items: pd.DataFrame, released: pd.DataFrame, *, progress: bool = False) -> pd.DataFrame:
    """The correlations of single terms over pairs of sentences, as released, and over sentences within checkpoints.

    With x_i the indicator and q_i COMET of the i-th item of a run in the order of the released file::

        rho_sentence_pairs = r(x_j - x_i, q_j - q_i) over all i < j

    The pairs join items of any two of the ten checkpoints, so that ``rho_sentence_pairs`` holds the course of training,
    as ``rho_pooled`` does; ``rho_within`` is the mean of the correlations within each checkpoint
    (`correlate_sentences`). The sign is the true one here: single sentences were not standardised.

    Parameters
    ----------
    items : DataFrame
        One row a run, place (in the released file), by, layer and term: checkpoint, sentence, the indicators, comet.
    released : DataFrame
        What `released_analyses.correlations` returns.

    Returns
    -------
    DataFrame
        One row a by, run, layer, term and indicator (metric: "comet"): rho_sentence_pairs; rho_pooled, rho_within,
        rho_between, smallest, largest as `correlate_sentences` gives them; rho_without_first, rho_pooled without the
        run's earliest checkpoint (missing if it is the only one).

    Raises
    ------
    InputError
        If a run has fewer than 3 items, a place and term stand twice, or a series has no released coefficient.
    """
    rows = []
    for names, x, comet in tqdm(in_order_of_place(items), disable=not progress, unit="indicator"):
        i, j = np.triu_indices(len(comet), 1)
        change = stats.rankdata(comet[j] - comet[i])
        for term, values in x.items():
            rho = np.corrcoef(stats.rankdata(values[j] - values[i]), change)[0, 1]
            rows.append({**names, "term": term, "rho_sentence_pairs": rho})
    found = pd.DataFrame(rows)
    group = ["by", "run", "layer", "term"]
    kept = ["rho_pooled", "rho_within", "rho_between", "smallest", "largest"]

    def over_all(rows: pd.DataFrame) -> pd.DataFrame:
        each = [correlate_sentences(rows, name, "comet", group).assign(indicator=name) for name in INDICATORS]
        return pd.concat(each)[[*group, "indicator", *kept]]

    found = found.merge(over_all(items), on=[*group, "indicator"], how="left", validate="1:1")
    later = items[items["checkpoint"] > items.groupby("run")["checkpoint"].transform("min")]
    if len(later):
        rest = over_all(later).rename(columns={"rho_pooled": "rho_without_first"}).drop(columns=kept[1:])
        found = found.merge(rest, on=[*group, "indicator"], how="left", validate="1:1")
    else:
        found["rho_without_first"] = np.nan
    both = beside(found.assign(metric="comet"), released, "sentence", KEY)
    return both[[*KEY, "rho_sentence_pairs", *kept, "rho_without_first"]]


def summed(items: pd.DataFrame, released: pd.DataFrame, *, progress: bool = False) -> pd.DataFrame:
    """The correlations of changes summed over terms over pairs of sentences, as released, and with both sides unsigned.

    With x_ki the indicator of term k in item i, in the order of the released file::

        signed    r(sum over k of |x_kj - x_ki|,  q_j - q_i) over i < j
        unsigned  r(sum over k of |x_kj - x_ki|, |q_j - q_i|)

    The order of a file means nothing, and ``signed`` rests on it: read from its end, the file gives the opposite.

    Returns
    -------
    DataFrame
        One row a by, run, layer and indicator (metric: "comet"): signed, unsigned.
    """
    rows = []
    for names, x, comet in tqdm(in_order_of_place(items), disable=not progress, unit="sum"):
        i, j = np.triu_indices(len(comet), 1)
        size = stats.rankdata(sum(np.abs(values[j] - values[i]) for values in x.values()))
        change = comet[j] - comet[i]
        signed, unsigned = (np.corrcoef(size, stats.rankdata(each))[0, 1] for each in (change, np.abs(change)))
        rows.append({**names, "signed": signed, "unsigned": unsigned})
    both = beside(pd.DataFrame(rows).assign(term=ALL_TERMS, metric="comet"), released, "sentence", KEY)
    return both[[*(name for name in KEY if name != "term"), "signed", "unsigned"]]


def in_order_of_place(items: pd.DataFrame) -> list[Items]:
    """The items of each by, run, layer and indicator, in the order of the released file.

    Raises
    ------
    InputError
        If a place and term stand twice, a number is infinite, or a run has fewer than 3 items.
    """
    keyed_numbers(items, ["by", "run", "layer", "term", "place"], [*INDICATORS, "comet"], "items")
    found = []
    for (by, run, layer), rows in items.groupby(["by", "run", "layer"], sort=True):
        if rows["place"].nunique() < FEWEST_ITEMS:
            raise InputError(f"items: run={run!r} has {rows['place'].nunique()} item(s); {FEWEST_ITEMS} are needed.")
        comet = rows.drop_duplicates("place").set_index("place")["comet"].sort_index().to_numpy(dtype=float)
        comet = np.rint(comet * 10**COMET_DECIMALS)
        for indicator in INDICATORS:
            wide = rows.pivot(index="place", columns="term", values=indicator).astype("float64")
            names = {"by": by, "run": run, "layer": layer, "indicator": indicator}
            found.append(Items(names, {term: wide[term].to_numpy() for term in wide}, comet))
    return found


def _coefficients(checkpoint: np.ndarray, x: np.ndarray, q: np.ndarray, rounding: list[float]) -> dict:
    # Numbers with few decimals become whole, so that equal means are equal.
    x, q = whole(x, rounding[0]), whole(q, rounding[1])
    steps, place = np.unique(checkpoint, return_inverse=True)
    within = np.array([_rho(x[place == k], q[place == k], rounding) for k in range(len(steps))])
    defined = within[~np.isnan(within)]
    sizes = np.bincount(place, minlength=len(steps))
    x_mean, q_mean = (np.bincount(place, values, len(steps)) / np.maximum(sizes, 1) for values in (x, q))
    left_out = len(steps) - len(defined)
    pooled, between = _rho(x, q, rounding), _rho(x_mean, q_mean, rounding)
    notes = [f"undefined within {left_out} of {len(steps)} checkpoints"] if left_out else []
    if np.isnan(pooled):
        notes.append(f"rho_pooled: a side is constant, or fewer than {FEWEST_SENTENCES} items ({len(x)})")
    if np.isnan(between):
        notes.append(
            f"rho_between: a side has the same mean at every checkpoint, or fewer than {FEWEST_SENTENCES} checkpoints "
            f"({len(steps)})"
        )
    return {
        "rho_pooled": pooled,
        "rho_within": defined.mean() if len(defined) else np.nan,
        "rho_between": between,
        "smallest": defined.min() if len(defined) else np.nan,
        "largest": defined.max() if len(defined) else np.nan,
        "checkpoints": len(defined),
        "sentences": len(x),
        "note": "; ".join(notes),
    }


def _rho(x: np.ndarray, q: np.ndarray, rounding: list[float]) -> float:
    if len(x) < FEWEST_SENTENCES or is_constant(x, rounding[0]) or is_constant(q, rounding[1]):
        return np.nan
    return float(stats.spearmanr(x, q).statistic)
