"""*What does trend buy?* An indicator against quality over training, and the same against another run's quality."""

from __future__ import annotations

import pandas as pd

from addends.checks import keyed_numbers, refuse_repeated, require_distinct, rounding_of
from addends.errors import InputError
from addends.figures import style
from addends.figures.widgets.page import Widget, packed, term_name

FEWEST_CHECKPOINTS = 4
_WHERE = "trend_buys"


def trend_buys(frame: pd.DataFrame, indicator: str, quality: str, caption: str) -> Widget:
    """A path over checkpoints; early ones can be left out, another run's quality taken, levels made differences.

    The coefficients are those of `addends.statistics.correlate_checkpoints`, ties and rounding included; beside that
    of the run's own quality stand those of every other run's, as `with_quality_of_others` pairs them.

    Parameters
    ----------
    frame : DataFrame
        Tidy: by, layer, term, run, checkpoint, and the columns ``indicator`` and ``quality``.
    indicator, quality : str
        Columns of numbers, which travel as they are. A missing value leaves its checkpoint out.
    caption : str

    Raises
    ------
    InputError
        If a column is missing, a row stands twice, a value is infinite, the runs were not saved at the same
        checkpoints, there are fewer than 2 runs or 4 checkpoints, a run has two qualities at a checkpoint, or there
        is more data than a page should carry.
    """
    key = ["by", "layer", "term"]
    require_distinct([*key, "run", "checkpoint", indicator, quality], _WHERE, "keys, indicator and quality")
    keyed_numbers(frame, [*key, "run", "checkpoint"], [indicator, quality], _WHERE, steps=["checkpoint"])
    runs, steps = list(dict.fromkeys(frame["run"])), sorted(frame["checkpoint"].unique().tolist())
    if len(runs) < 2 or len(steps) < FEWEST_CHECKPOINTS:
        raise InputError(
            f"{_WHERE}: {len(runs)} run(s) and {len(steps)} checkpoint(s); 2 and {FEWEST_CHECKPOINTS} or more are "
            "needed, for one run's quality is set beside another's."
        )
    scores = frame[["run", "checkpoint", quality]].drop_duplicates()
    refuse_repeated(scores, ["run", "checkpoint"], _WHERE, "Give each run one quality a checkpoint.")
    bits = 32 if str(frame[indicator].dtype).lower() == "float32" else 64
    groups = []
    for name, rows in frame.groupby(key, sort=False):
        wide = rows.pivot(index="run", columns="checkpoint", values=indicator)
        if len(rows) != len(runs) * len(steps):
            raise InputError(
                f"{_WHERE}: {dict(zip(key, name, strict=True))} has {len(rows)} rows for {len(runs)} runs and "
                f"{len(steps)} checkpoints: keep the checkpoints that all runs have."
            )
        values = wide.loc[runs, steps].to_numpy(dtype="float64", na_value=float("nan"))
        by, layer, term = name
        named = {"by": str(by), "layer": int(layer), "term": str(term), "name": term_name(term, by)}
        groups.append({**named, "values": packed(values, bits)})
    table = scores.pivot(index="run", columns="checkpoint", values=quality).loc[runs, steps]
    terms = {by: style.in_order(rows["term"]) for by, rows in frame.groupby("by")}
    data = {
        "title": "What does trend buy?",
        "caption": caption,
        "colours": {
            **{f"{by}-{term}": colour for by in terms for term, colour in style.term_palette(terms[by], by).items()},
            "grey": "#767676",
        },
        "labels": {
            "indicator": style.INDICATOR_LABELS.get(indicator, indicator),
            "quality": style.METRIC_LABELS.get(quality, quality),
        },
        "rounding": {"indicator": rounding_of(frame[indicator]), "quality": rounding_of(frame[quality])},
        "bits": bits,
        "runs": [str(run) for run in runs],
        "steps": steps,
        "groups": groups,
        "quality": [[None if pd.isna(one) else float(one) for one in row] for row in table.to_numpy()],
    }
    return Widget("trend", data)
