"""What independent runs say: the spread of a coefficient over them, which no number of checkpoints replaces."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from addends.errors import InputError
from addends.statistics.columns import listed, named, numbers, require_columns
from addends.statistics.intervals import sd_multipliers


def over_runs(
    table: pd.DataFrame,
    values: str | Sequence[str] = "rho",
    by: str | Sequence[str] = ("layer", "term", "indicator", "metric"),
    level: float = 0.95,
) -> pd.DataFrame:
    """Mean, range and standard deviation over runs of coefficients that were computed run by run.

    With c_1, ..., c_R one coefficient in each of R runs::

        mean = sum c_r / R,   sd_runs = sqrt(sum (c_r - mean)^2 / (R - 1))

    ``sd_runs`` is known only within a factor; its interval is exact where the coefficients are normal over runs, and
    from few runs very wide (three: .52 to 6.3 times the estimate). It is another thing than ``se_blocks`` of
    `bootstrap.over_blocks`, which stays within one run, and than the published "stdv", which is the spread over samples
    of pairs from one run.

    Parameters
    ----------
    table : DataFrame
        One row a "run" and ``by``, as `pairs.over_pairs` returns. A missing coefficient is left out and counted.
    values : sequence of str
        The columns of coefficients.
    by : sequence of str
        The columns that name a group; "run" is not among them.

    Returns
    -------
    DataFrame
        One row a group and column of ``values``: ``by``, quantity (the column's name), runs (how many have it),
        missing, mean, smallest, largest, sd_runs, sd_runs_low, sd_runs_high, level, same_sign (whether all runs have it
        and agree on its sign).

    Raises
    ------
    InputError
        If a column is unknown, a coefficient infinite, a run stands twice in a group, or there is one run only: one
        run has no spread, and its checkpoints cannot stand in for others.
    """
    where = "over_runs"
    by, values = ([names] if isinstance(names, str) else list(names) for names in (by, values))
    reserved = {"run", "quantity", "size"}
    if reserved & {*by} or len({*by, *values}) < len(by) + len(values):
        raise InputError(
            f"{where}: by={by} and values={values} must be different columns, and by without {sorted(reserved)}."
        )
    require_columns(table, ["run", *by, *values], where)
    runs = sorted(table["run"].dropna().unique())
    if len(runs) < 2:
        raise InputError(f"{where}: the table has the run(s) {listed(runs)}; a spread over runs needs two or more.")
    keys = ["run", *by]
    if table[keys].isna().any(axis=None):
        raise InputError(f"{where}: a missing value in {keys}; name every run and group.")
    if table.duplicated(keys).any():
        cases = [named(keys, row) for row in table.loc[table.duplicated(keys), keys].itertuples(index=False)]
        raise InputError(
            f"{where}: a run has one row a group, but {len(cases)} stand more than once: {listed(cases, 3)}. Name the "
            "column that tells them apart in by=."
        )
    for name in values:
        if np.isinf(numbers(table, name, where)).any():
            raise InputError(f"{where}: the column {name!r} holds infinite values.")
    frames = [table[keys].assign(quantity=name, size=numbers(table, name, where)) for name in values]
    groups = pd.concat(frames).groupby([*by, "quantity"], sort=False, observed=True)["size"]
    result = groups.agg(runs="count", missing=lambda v: int(v.isna().sum()), mean="mean", smallest="min", largest="max")
    result["sd_runs"] = groups.std(ddof=1)
    enough = result["runs"] >= 2
    low, high = sd_multipliers(result["runs"].clip(lower=2).to_numpy(), level)
    result["sd_runs_low"] = (result["sd_runs"] * low).where(enough)
    result["sd_runs_high"] = (result["sd_runs"] * high).where(enough)
    result["level"] = level
    one_sign = (result["smallest"] > 0) | (result["largest"] < 0)
    result["same_sign"] = one_sign & enough & (result["missing"] == 0)
    return result.reset_index()
