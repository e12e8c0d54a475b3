"""The released correlations over pairs of single sentences, and what is left of them within checkpoints."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats
from tqdm.auto import tqdm

from addends.errors import InputError
from addends.replication.coefficients import ALL_TERMS, beside
from addends.replication.sentence_level import over_sentences
from addends.tables import INDICATORS

KEY = ["by", "run", "layer", "term", "indicator", "metric"]
COMET_DECIMALS = 4
FEWEST_ITEMS = 3


def by_term(items: pd.DataFrame, released: pd.DataFrame, *, progress: bool = False) -> pd.DataFrame:
    """The correlations of single terms over pairs of sentences, as released, and over sentences within checkpoints.

    With x_i the indicator and q_i COMET of the i-th item of a run in the order of the released file::

        rho_pairs = r(x_j - x_i, q_j - q_i) over all i < j

    The pairs join items of any two of the ten checkpoints, so that ``rho_pairs`` holds the course of training, as
    ``rho_pooled`` does; ``rho_within`` is the mean of the correlations within each checkpoint
    (`sentence_level.over_sentences`). The sign is the true one here: single sentences were not standardised.

    Parameters
    ----------
    items : DataFrame
        One row a run, place (in the released file), by, layer and term: checkpoint, sentence, the indicators, comet.
    released : DataFrame
        What `published.correlations` returns.

    Returns
    -------
    DataFrame
        One row a by, run, layer, term and indicator (metric: "comet"): rho_pairs; rho_pooled, rho_within, rho_between,
        smallest, largest as `over_sentences` gives them; rho_without_first, rho_pooled without the run's earliest
        checkpoint (missing if it is the only one).

    Raises
    ------
    InputError
        If a run has fewer than 3 items, a place stands twice, or a series has no released coefficient.
    """
    rows = []
    for names, wide, comet in tqdm(of_runs(items), disable=not progress, unit="indicator"):
        i, j = np.triu_indices(len(comet), 1)
        change = stats.rankdata(comet[j] - comet[i])
        for term, x in wide.items():
            rho = np.corrcoef(stats.rankdata(x[j] - x[i]), change)[0, 1]
            rows.append({**names, "term": term, "rho_pairs": rho})
    found = pd.DataFrame(rows)
    group = ["by", "run", "layer", "term"]
    later = items[items["checkpoint"] > items.groupby("run")["checkpoint"].transform("min")]
    kept = ["rho_pooled", "rho_within", "rho_between", "smallest", "largest"]
    for rows, names in ((items, kept), (later, ["rho_without_first"])):
        if not len(rows):
            found = found.assign(rho_without_first=np.nan)
            continue
        each = [over_sentences(rows, name, "comet", group).assign(indicator=name) for name in INDICATORS]
        each = pd.concat(each).assign(rho_without_first=lambda frame: frame["rho_pooled"])
        found = found.merge(each[[*group, "indicator", *names]], on=[*group, "indicator"], how="left", validate="1:1")
    both = beside(found.assign(metric="comet"), released, "sentence", KEY)
    return both[[*KEY, "rho_pairs", *kept, "rho_without_first"]]


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
    for names, wide, comet in tqdm(of_runs(items), disable=not progress, unit="sum"):
        i, j = np.triu_indices(len(comet), 1)
        size = stats.rankdata(sum(np.abs(x[j] - x[i]) for x in wide.values()))
        change = comet[j] - comet[i]
        signed, unsigned = (np.corrcoef(size, stats.rankdata(each))[0, 1] for each in (change, np.abs(change)))
        rows.append({**names, "signed": signed, "unsigned": unsigned})
    both = beside(pd.DataFrame(rows).assign(term=ALL_TERMS, metric="comet"), released, "sentence", KEY)
    return both[[*(name for name in KEY if name != "term"), "signed", "unsigned"]]


def of_runs(items: pd.DataFrame) -> list[tuple[dict, dict[str, np.ndarray], np.ndarray]]:
    """Each run, layer and indicator: its names, {term: values} and COMET in whole last decimals, in order of place."""
    found = []
    for (by, run, layer), rows in items.groupby(["by", "run", "layer"], sort=True):
        if rows.duplicated(["place", "term"]).any():
            raise InputError(f"items: run={run!r}, by={by!r}, layer={layer!r} has a place and term twice; keep one.")
        if rows["place"].nunique() < FEWEST_ITEMS:
            raise InputError(f"items: run={run!r} has {rows['place'].nunique()} item(s); {FEWEST_ITEMS} are needed.")
        # Whole numbers of the last decimal, so that equal differences are equal.
        comet = rows.drop_duplicates("place").set_index("place")["comet"].sort_index().to_numpy(dtype=float)
        comet = np.rint(comet * 10**COMET_DECIMALS)
        for indicator in INDICATORS:
            wide = rows.pivot(index="place", columns="term", values=indicator).astype("float64")
            names = {"by": by, "run": run, "layer": layer, "indicator": indicator}
            found.append((names, {term: wide[term].to_numpy() for term in wide}, comet))
    return found
