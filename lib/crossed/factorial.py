"""Two factors of the runs (start and course, say), crossed with sentences: seven variances in closed form.

Every start is combined with every course, and every sentence is measured in every run. :func:`factorial_shares` splits
the variance of such a table, :func:`factorial_contrast` holds some shares against others, and
:func:`complete_rectangle` finds the largest full crossing where some runs are not there.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from crossed.cells import by_group, cells_of, table_of_shares
from crossed.checks import check_draws, check_level, names_of, require_columns
from crossed.errors import InputError
from crossed.pivots import pivotal_quantities

MOST_PATTERNS = 16  # rows that lack different columns; the search doubles with each
# Axes of (first factor, second factor, column): each combination is a component, in this order.
EFFECTS = ((0,), (1,), (0, 1), (2,), (0, 2), (1, 2), (0, 1, 2))


def factorial_shares(
    data: pd.DataFrame,
    outcome: str,
    factors: Sequence[str] = ("init_seed", "order_seed"),
    column: str = "sentence",
    replicate: str | None = None,
    by: str | Sequence[str] | None = None,
    level: float = 0.95,
    draws: int = 100_000,
    seed: int = 0,
) -> pd.DataFrame:
    r"""Variances and shares of two crossed factors of the runs, of the sentence, and of all their combinations.

    The model, for level i of A (start, say), j of B (course), sentence s of S and replicate k of K::

        y_ijsk = mu + d_k + a_i + b_j + ab_ij + c_s + ac_is + bc_js + abc_ijs + e_ijsk

    with the d_k fixed and all else drawn from normal distributions. The mean square of a combination of factors holds
    its own variance and those of all combinations that contain it, each times the number of rows behind one level::

        mean square   degrees of freedom       expectation
        M_a           A - 1                    E + K abc + K B ac + K S ab + K B S a
        M_b           B - 1                    E + K abc + K A bc + K S ab + K A S b
        M_ab          (A - 1)(B - 1)           E + K abc + K S ab
        M_c           S - 1                    E + K abc + K B ac + K A bc + K A B c
        M_ac          (A - 1)(S - 1)           E + K abc + K B ac
        M_bc          (B - 1)(S - 1)           E + K abc + K A bc
        M_abc         (A - 1)(B - 1)(S - 1)    E + K abc
        M_e           (A B S - 1)(K - 1)       E

    so a = (M_a - M_ab - M_ac + M_abc) / (K B S), and so on. With K = 1 there is no M_e, and the last component is named
    "... + residual". Intervals are generalised, as those of `crossed.crossed_shares`. A main effect of four levels
    has three degrees of freedom: ``sd_multipliers(df + 1)`` says how far its SD is known at best, .57 to 3.7.

    Effects of one kind count as independent and of one variance. Sentences that differ in how much they vary leave
    fewer degrees of freedom than the table says, and intervals of the components by ``column`` are then too short.

    Parameters
    ----------
    data : DataFrame
        One row a (factor, factor, ``column``); with ``replicate``, one for each of its values. Runs that repeat a cell
        with other dropout masks belong to `crossed.floor_of_pairs`.
    outcome : str
        The column to be divided.
    factors : two str
        The factors of the runs.
    column : str
        What is measured in every run.
    replicate : str, optional
        Repetitions of all cells (checkpoints of a plateau). Neighbouring checkpoints resemble each other: they make the
        residual too small, and the combination of all three factors too large. They add no runs.
    by, level, draws, seed
        As for `crossed.crossed_shares`.

    Returns
    -------
    DataFrame
        The columns of ``by``; then a row a component, named "init_seed:sentence" and so on, with the columns of
        `crossed.crossed_shares` and ``moment``: the moment estimate as it came out, below 0 where ``boundary`` is True.

        >>> import pandas as pd
        >>> rows = [(i, j, s, i + 2 * s + i * j * s) for i in range(2) for j in range(2) for s in range(3)]
        >>> data = pd.DataFrame(rows, columns=["init_seed", "order_seed", "sentence", "y"])
        >>> factorial_shares(data, "y", draws=1000)[["component", "df", "mean_square", "moment"]].round(3)
                                          component  df  mean_square  moment
        0                                 init_seed   1         6.75   1.000
        1                                order_seed   1         0.75   0.000
        2                      init_seed:order_seed   1         0.75   0.167
        3                                  sentence   2        20.25   5.000
        4                        init_seed:sentence   2         0.25   0.000
        5                       order_seed:sentence   2         0.25   0.000
        6  init_seed:order_seed:sentence + residual   2         0.25   0.250

    Raises
    ------
    InputError
        As `crossed.crossed_shares`; and if a combination of the two factors is missing: the message names the largest
        complete rectangle.

    References
    ----------
    Weerahandi, S. (1993). Generalized confidence intervals. Journal of the American Statistical Association 88,
    899-905. Searle, S. R., Casella, G. and McCulloch, C. E. (1992). Variance Components, Wiley, chapter 4.
    """
    where = f"factorial_shares({outcome!r})"
    check_level(level, where)
    check_draws(draws, where)
    names = component_names(factors, column, replicate, where)

    def split(rows: pd.DataFrame) -> pd.DataFrame:
        cells = factorial_cells(rows, outcome, factors, column, replicate, where)
        df, squares = factorial_mean_squares(cells)
        weights = factorial_weights(cells.shape)
        sizes = cells.shape[:3]
        levels = [int(np.prod([sizes[axis] for axis in axes])) for axes in EFFECTS] + [cells.size] * (len(df) > 7)
        table = table_of_shares(names, levels, df, squares, weights, (), level, draws, seed)
        table.insert(table.columns.get_loc("variance_lower"), "moment", weights @ squares)
        return table

    return by_group(split, data, by, where, taken=["moment"])


def factorial_contrast(
    data: pd.DataFrame,
    outcome: str,
    plus: Sequence[str],
    minus: Sequence[str],
    factors: Sequence[str] = ("init_seed", "order_seed"),
    column: str = "sentence",
    replicate: str | None = None,
    by: str | Sequence[str] | None = None,
    level: float = 0.95,
    draws: int = 100_000,
    seed: int = 0,
) -> pd.DataFrame:
    """The share of some components together, less that of others: does geometry belong to runs or to sentences?

    ::

        estimate = sum of the shares of plus - sum of the shares of minus

    The interval holds the middle ``level`` of the draws of the same difference: the draws are those of
    `factorial_shares`.

    Parameters
    ----------
    plus, minus : sequence of str
        Components by the names that `factorial_shares` gives them.
    data, outcome, factors, column, replicate, by, level, draws, seed
        As for `factorial_shares`.

    Returns
    -------
    DataFrame
        The columns of ``by``; then plus, minus (the two sums), estimate, lower, upper.

    Raises
    ------
    InputError
        As `factorial_shares`; or if a name is none of a component, or stands on both sides.
    """
    where = f"factorial_contrast({outcome!r})"
    check_level(level, where)
    check_draws(draws, where)
    names = component_names(factors, column, replicate, where)
    unknown = [name for name in (*plus, *minus) if name not in names]
    if unknown or set(plus) & set(minus) or not plus or not minus:
        raise InputError(
            f"{where}: plus={list(plus)}, minus={list(minus)}: each component stands on one side, and each side "
            f"has one at least; the components are {names}."
        )
    sides = np.array([[name in plus, name in minus] for name in names], dtype=float)

    def difference(rows: pd.DataFrame) -> pd.DataFrame:
        cells = factorial_cells(rows, outcome, factors, column, replicate, where)
        df, squares = factorial_mean_squares(cells)
        weights = factorial_weights(cells.shape)
        moments = (weights @ squares).clip(min=0)
        gains, losses = moments / moments.sum() @ sides
        _, shares = pivotal_quantities(df, squares, weights, draws, np.random.default_rng(seed))
        lower, upper = np.quantile(shares @ sides @ [1, -1], [(1 - level) / 2, (1 + level) / 2])
        found = {"plus": gains, "minus": losses, "estimate": gains - losses, "lower": lower, "upper": upper}
        return pd.DataFrame([found])

    return by_group(difference, data, by, where, taken=["plus", "minus", "estimate", "lower", "upper"])


def complete_rectangle(data: pd.DataFrame, row: str, column: str) -> tuple[list, list]:
    """The largest set of rows and set of columns all of whose combinations occur in the data.

    Of several with as many cells, the one nearest to a square; of those, the first in the order of the columns.

    >>> import pandas as pd
    >>> cells = pd.DataFrame({"start": [1, 1, 1, 2, 2, 2, 3], "course": [1, 2, 3, 1, 2, 3, 1]})
    >>> complete_rectangle(cells, "start", "course")
    ([1, 2], [1, 2, 3])

    Returns
    -------
    tuple of two lists
        Levels of ``row`` and levels of ``column``, sorted.

    Raises
    ------
    InputError
        If a column is unknown, has missing values or mixes numbers and text, there are no rows, or the crossing has too
        many gaps to be searched (over 16 levels of ``row`` that lack different levels of ``column``).
    """
    where = f"complete_rectangle({row!r}, {column!r})"
    require_columns(data, [row, column], where)
    if len(data) == 0 or data[[row, column]].isna().any(axis=None):
        raise InputError(f"{where}: there are no rows, or one of the two factors is missing in a row; drop such rows.")
    for name in (row, column):
        kinds = sorted({"text" if isinstance(level, str) else "numbers" for level in data[name].unique()})
        if len(kinds) > 1:
            raise InputError(f"{where}: {name!r} mixes numbers and text: they have no order. Make all of them text.")
    present = {level: frozenset(part) for level, part in data.groupby(row, sort=True)[column]}
    patterns = set(present.values())
    if len(patterns) > MOST_PATTERNS:
        raise InputError(
            f"{where}: {len(patterns)} levels of {row!r} lack different levels of {column!r}; {MOST_PATTERNS} can be "
            "searched. Swap the two, or choose the rectangle by hand."
        )
    # The columns of the best rectangle are those that some rows have in common.
    shared = set(patterns)
    for pattern in patterns:
        shared |= {pattern & other for other in shared}
    found = [([level for level, has in present.items() if has >= columns], sorted(columns)) for columns in shared]
    rows, columns = min(
        (pair for pair in found if pair[1]),
        key=lambda pair: (-len(pair[0]) * len(pair[1]), -min(map(len, pair)), pair[1], pair[0]),
    )
    return pd.Index(rows).tolist(), pd.Index(columns).tolist()


def component_names(factors: Sequence[str], column: str, replicate: str | None, where: str) -> list[str]:
    """The names of the components, in the order of `EFFECTS`; the last says that it holds the residual, or is it."""
    factors = names_of(factors, "factors", where)
    if len(factors) != 2:
        raise InputError(f"{where}: factors={factors}: two are wanted, such as ['init_seed', 'order_seed'].")
    axes = [*factors, column]
    names = [":".join(axes[axis] for axis in effect) for effect in EFFECTS]
    return [*names, "residual"] if replicate is not None else [*names[:-1], f"{names[-1]} + residual"]


def factorial_cells(
    data: pd.DataFrame, outcome: str, factors: Sequence[str], column: str, replicate: str | None, where: str
) -> np.ndarray:
    """The outcome, less its mean, as an array (first factor, second factor, column, replicate).

    Raises
    ------
    InputError
        As `factorial_shares`.
    """
    first, second = factors
    require_columns(data, [first, second], where)
    runs = data[[first, second]].dropna().drop_duplicates()
    cells = runs[first].nunique() * runs[second].nunique()
    if len(runs) < cells:
        rows, columns = complete_rectangle(runs, first, second)
        raise InputError(
            f"{where}: {cells - len(runs)} of {cells} combinations of {first} and {second} are missing. The largest "
            f"complete rectangle is {first} in {rows} and {second} in {columns}: {len(rows)} x {len(columns)}. Divide "
            "that one, and say which runs are left out."
        )
    names = [first, second, column] + ([] if replicate is None else [replicate])
    spared = f"{column} out of every combination of {first} and {second}"
    found = cells_of(data, outcome, names, where, spared)
    return found.reshape(*found.shape[:3], -1)


def factorial_mean_squares(cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """df and mean squares in the order of `EFFECTS`; then those of the residual, where there are replicates."""
    sizes, replicates = np.array(cells.shape[:3]), cells.shape[3]
    by_cell = cells.mean(axis=3)  # (first factor, second factor, column)
    df, sums = [], []
    for axes in EFFECTS:
        others = tuple(axis for axis in range(3) if axis not in axes)
        effect = by_cell.mean(axis=others, keepdims=True)
        for axis in axes:
            effect = effect - effect.mean(axis=axis, keepdims=True)
        df.append(int(np.prod(sizes[list(axes)] - 1)))
        sums.append(replicates * np.prod(sizes[list(others)]) * np.sum(effect**2))
    if replicates > 1:
        rest = cells - by_cell[..., None] - (cells.mean(axis=(0, 1, 2)) - cells.mean())
        df.append((by_cell.size - 1) * (replicates - 1))
        sums.append(np.sum(rest**2))
    return np.array(df), np.array(sums) / df


def factorial_weights(shape: Sequence[int]) -> np.ndarray:
    """variance = weights @ mean squares: the expectations of `factorial_shares`, solved."""
    sizes, replicates = np.array(shape[:3]), shape[3]
    count = len(EFFECTS) + (replicates > 1)
    expectations = np.ones((count, count))  # the residual is in every mean square
    for number, component in enumerate(EFFECTS):
        behind = replicates * np.prod([sizes[axis] for axis in range(3) if axis not in component])
        for place in range(count):
            inside = place < len(EFFECTS) and set(EFFECTS[place]) <= set(component)
            expectations[place, number] = behind if inside else 0
    return np.linalg.inv(expectations)
