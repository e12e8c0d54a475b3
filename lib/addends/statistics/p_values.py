"""p-values: by permutation of runs, and adjusted over a family of tests.

A permutation is drawn only where there are too many to go through them all: with five runs there are 120, and the
p-value is a count of them. Such a p-value is never 0, and never below one over the number of permutations.

References
----------
Phipson and Smyth (2010), Permutation p-values should never be zero, Statistical Applications in Genetics and Molecular
Biology 9. Holm (1979), A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6.
"""

from __future__ import annotations

from itertools import permutations
from math import factorial

import numpy as np
from numpy.typing import ArrayLike
from statsmodels.stats.multitest import multipletests

from addends.checks import check_choice
from addends.errors import InputError

CORRECTIONS = ("holm", "fdr_bh")


def permutation_p(pairs: np.ndarray, draws: int, seed: int, two_sided: bool = False) -> float:
    r"""How often another pairing of runs with runs has a sum as large as the one at hand.

    ::

        T(pi) = sum over i of pairs[i, pi(i)],    p = share of the permutations pi with T(pi) >= T(identity)

    All R! permutations are gone through where there are at most ``draws``. Otherwise so many are drawn, and the runs as
    they are count as one more: p = (1 + count) / (1 + draws).

    >>> permutation_p(np.array([[3.0, 0, 0], [0, 2, 0], [0, 0, 1]]), draws=99, seed=0)  # one of six
    0.16666666666666666

    Parameters
    ----------
    pairs : array (run, run)
        What run i of the one kind and run j of the other give together.
    two_sided : bool
        Compare sizes: abs(T).
    """
    runs = len(pairs)
    everyone = np.arange(runs)
    exact = factorial(runs) <= draws
    if exact:
        drawn = np.array(list(permutations(range(runs))))  # (permutation, run)
    else:
        drawn = np.random.default_rng(seed).permuted(np.tile(everyone, (draws, 1)), axis=1)
    sums, observed = pairs[everyone, drawn].sum(axis=1), np.trace(pairs)
    if two_sided:
        sums, observed = np.abs(sums), abs(observed)
    as_large = int((sums >= observed - 1e-12 * np.abs(pairs).max() * runs).sum())
    return as_large / len(drawn) if exact else (1 + as_large) / (1 + draws)


def adjusted(p: ArrayLike, method: str = "holm") -> np.ndarray:
    """p-values adjusted over their family. A test that could not be made is missing, stays so, and does not count.

    >>> adjusted([0.01, float("nan"), 0.04]).tolist()
    [0.02, nan, 0.04]

    Parameters
    ----------
    p : array (test,)
    method : str
        One of `CORRECTIONS`.

    Raises
    ------
    InputError
        If a number is no probability, or the method is none of the allowed.
    """
    check_choice("method", method, CORRECTIONS, "adjusted")
    values = np.asarray(p, dtype=float)
    there = ~np.isnan(values)
    if ((values[there] < 0) | (values[there] > 1)).any():
        raise InputError(f"adjusted: p={values.tolist()}: numbers from 0 to 1 are wanted, or missing ones.")
    found = np.full(len(values), np.nan)
    if there.any():
        found[there] = multipletests(values[there], method=method)[1]
    return found
