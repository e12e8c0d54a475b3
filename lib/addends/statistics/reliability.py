"""Whether a test set can tell runs apart: the reliability of the runs' means over its sentences."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from scipy import stats

import crossed
from addends.checks import check_level, groups_of
from addends.errors import InputError

_FOUND = (
    "runs", "sentences", "f", "df_runs", "df_residual", "p", "reliability", "reliability_lower", "reliability_upper",
)  # fmt: skip


def reliability_between_runs(
    frame: pd.DataFrame,
    value: str,
    by: str | Sequence[str] = (),
    run: str = "run",
    sentence: str = "sentence",
    level: float = 0.95,
) -> pd.DataFrame:
    r"""The share of the variance between the runs' means that is due to the runs, and not to this draw of sentences.

    With the mean squares of the balanced crossing of R runs and S sentences::

        F = M_run / M_residual,    reliability = A / (A + M_residual / S) = 1 - 1 / F

    where A is the variance between runs. It is the correlation to be expected between the runs' means on these
    sentences and on as many others. A correlation of anything with the runs' means can reach the square root of it.
    The interval is exact for normal effects: F divided by the quantiles of its distribution.

    Parameters
    ----------
    frame : DataFrame
        One row a run and sentence, every sentence in every run.
    value : str
        The column whose means are compared: chrf, bleu, nll.
    by : str or sequence of str
        Columns that split the frame: a row of the result for each of their combinations.
    run, sentence : str
        The crossed factors.
    level : float
        Of the interval, between 0 and 1.

    Returns
    -------
    DataFrame
        The columns of ``by``, then runs, sentences, f, df_runs, df_residual, p, reliability (0 where F is below 1),
        reliability_lower, reliability_upper.

    Raises
    ------
    InputError
        As `crossed.crossed_shares` does; or if a row has no group, or run and sentence leave no residual.

    References
    ----------
    Shrout, P. E. and Fleiss, J. L. (1979). Intraclass correlations: uses in assessing rater reliability. Psychological
    Bulletin 86, 420-428: ICC(3, k), with runs as targets and sentences as raters.
    """
    where = "reliability_between_runs"
    check_level(level, where)
    rows = []
    for group, part in groups_of(frame, by, _FOUND, where):
        table = crossed.crossed_shares(part, value, run, sentence, draws=1_000).set_index("component")
        runs, residual = table.loc[run], table.iloc[-1]
        if not residual["mean_square"] > 1e-20 * table["mean_square"].max():
            raise InputError(
                f"{where}: {run} and {sentence} give {value!r} exactly: there is no residual to hold the runs against. "
                "Is it made of the two, or are the sentences copies of each other?"
            )
        f = runs["mean_square"] / residual["mean_square"]
        upper, lower = stats.f.ppf([(1 - level) / 2, (1 + level) / 2], runs["df"], residual["df"])
        rows.append(
            {
                **group,
                "runs": int(runs["levels"]),
                "sentences": int(table.loc[sentence, "levels"]),
                "f": f,
                "df_runs": int(runs["df"]),
                "df_residual": int(residual["df"]),
                "p": stats.f.sf(f, runs["df"], residual["df"]),
                "reliability": max(0.0, 1 - 1 / f),
                "reliability_lower": max(0.0, 1 - lower / f),
                "reliability_upper": max(0.0, 1 - upper / f),
            }
        )
    return pd.DataFrame(rows)
