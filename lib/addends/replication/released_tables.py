"""The released measurements as tables of this project: six that are valid under its schemas, and two besides.

:func:`tables` returns the six. Written by `addends.tables.write` they are a folder that `addends.tables.read_suite`
reads, so that the released runs can be analysed like runs of one's own. Names are mapped as
`addends.replication.released` says. Values are not changed unless a function's docstring says so. No key occurs twice
in any of the files.
"""

from __future__ import annotations

import hashlib
import warnings

import pandas as pd

from addends import tables as schemas
from addends.checks import check_choice
from addends.errors import DataError
from addends.replication.released import INDICATOR_NAMES, RUNS, TERMS, fetch, run_of

# By (method, target): the folder and the beginning of the files' names.
_TRAJECTORIES = {
    ("sublayer", "own"): ("decomps/gen", "res-gen"),
    ("sublayer", "reference"): ("decomps/no-gen", "res-no-gen"),
    ("token", "own"): ("decomps-oh-schuler/gen", "res-oh-schuler-gen"),
    ("token", "reference"): ("decomps-oh-schuler/no-gen", "res-oh-schuler-no-gen"),
}


def runs() -> pd.DataFrame:
    """The six runs: table ``runs``. Seeds, width and number of parameters were not released and are missing.

    ``steps`` is the last checkpoint with a BLEU score, ``layers`` the decoder's layers.
    """
    steps = _scores("bleu").groupby("run")["checkpoint"].max()
    pair = {run: run.removesuffix(f"-s{run[-1]}") for run in RUNS}
    frame = pd.DataFrame({"run": list(RUNS), "suite": "published", "block": "published", "lineage": "none"})
    frame["condition"] = frame["languages"] = frame["run"].map(pair)
    frame["layers"] = 6
    frame["steps"] = frame["run"].map(steps)
    missing = ("pairs", "init_seed", "order_seed", "dropout_seed", "dim", "parameters")
    return _valid(frame.assign(**dict.fromkeys(missing, pd.NA)), "runs")


def quality() -> pd.DataFrame:
    """Corpus-level BLEU, chrF and COMET of every checkpoint: table ``quality``.

    BLEU and chrF are in points (0 to 100): the released BLEU, a share, is multiplied by 100. COMET is as released.
    The released chrF has one decimal and COMET four, so late checkpoints tie. ``rus-eng-s0`` has no chrF at step
    489,000: the row stands, its score missing. Scores past a run's last checkpoint are left out with a warning that
    counts them; ``stray_scores`` returns them.

    Warns
    -----
    UserWarning
        How many stray scores of which run were left out.
    """
    scores, stray = _split_scores()
    if len(stray):
        counts = stray.groupby(["run", "metric"]).size()
        listed = ", ".join(f"{number} {metric} of {run}" for (run, metric), number in counts.items())
        warnings.warn(
            f"Left out {len(stray)} released scores past the last checkpoint of their run ({listed}); "
            "released_tables.stray_scores() returns them.",
            stacklevel=2,
        )
    return _valid(scores.assign(set="held_out"), "quality")


def stray_scores() -> pd.DataFrame:
    """The rows that ``quality`` leaves out, as a ``quality`` table.

    They belong to ``rus-eng-s0`` at steps 586,000 to 790,000, past its last checkpoint with BLEU and with indicators
    (585,000): 22 of chrF, all missing, and 22 of COMET, all .26, below what the run had at its first checkpoint.
    """
    return _valid(_split_scores()[1].assign(set="held_out"), "quality")


def trajectories(statistic: str = "mean") -> pd.DataFrame:
    """The indicators of every checkpoint as means over the test corpus: table ``trajectories``.

    One row for each of 6 runs, 585 to 639 checkpoints, 2 targets, 7 layers (0 is the input of the first decoder
    layer) and 5 + 3 terms. The released files hold 0 for the cosine of a zero vector (layer 0 has a single term);
    wherever the norm ratio is exactly 0 the cosine is missing here, as it is in all of this project's tables.

    Parameters
    ----------
    statistic : {"mean", "std"}
        The mean over the corpus, or the released standard deviation over it, in the same columns.

    Raises
    ------
    InputError
        If ``statistic`` is neither.
    """
    check_choice("statistic", statistic, ("mean", "std"), "trajectories")
    frames = []
    for (by, target), (folder, stem) in _TRAJECTORIES.items():
        for run in RUNS:
            wide = pd.read_csv(fetch(f"results/{folder}/{stem}.{run}.csv"))
            wide["func"] = wide["func"].map(INDICATOR_NAMES)
            wide = wide.set_index(["checkpoint", "layer_idx", "func"])
            zero = _by_term(wide, "mean ", by)["norm_ratio"] == 0
            frame = _by_term(wide, f"{statistic} ", by)
            frame["cosine"] = frame["cosine"].mask(zero)
            frames.append(frame.reset_index().assign(run=run, by=by, target=target))
    return _valid(pd.concat(frames).rename(columns={"layer_idx": "layer"}), "trajectories")


def sentences() -> pd.DataFrame:
    """The Russian sentences measured one by one: table ``sentences``, 2,242 rows. Lengths were not released.

    The id is the first 12 hexadecimal digits of the SHA-256 of the source text (UTF-8). It names the source: nine
    sources occur with a second reference. The texts themselves are not in the table.
    """
    ids = _sentence_level("sublayer")["sentence"].drop_duplicates().sort_values()
    frame = pd.DataFrame({"sentence": ids, "language": "rus", "source_tokens": pd.NA, "target_tokens": pd.NA})
    return _valid(frame, "sentences")


def translations() -> pd.DataFrame:
    """COMET of 400 translations a run: table ``translations``. Its other scores were not released and are missing.

    The items of a run were drawn from (checkpoint, sentence) pairs of ten checkpoints: no two checkpoints share more
    than a few sentences, so sentence and checkpoint are confounded.
    """
    items = _sentence_level("sublayer").rename(columns={"ckpt": "checkpoint", "comet_score": "comet"})
    frame = items[["run", "checkpoint", "sentence", "comet"]].drop_duplicates()
    missing = dict.fromkeys(("chrf", "bleu", "nll"), float("nan"))
    return _valid(frame.assign(**missing, tokens=pd.NA), "translations")


def measurements() -> pd.DataFrame:
    """The indicators of the same 400 items a run, as means over the sentence: table ``measurements``.

    The target is always the model's own translation. The cosine of a zero vector is an empty cell in the released
    files and missing here. Numbers of tokens were not released and are missing.
    """
    frames = []
    for by, terms in TERMS.items():
        wide = _sentence_level(by).set_index(["run", "ckpt", "sentence", "layer_idx", "func"])[list(terms)]
        frames.append(_by_term(wide, "", by).reset_index().assign(by=by, target="own", tokens=pd.NA))
    return _valid(pd.concat(frames).rename(columns={"ckpt": "checkpoint", "layer_idx": "layer"}), "measurements")


def places() -> pd.DataFrame:
    """The place of every item of ``measurements`` in the released file of its run, counted from 0.

    Columns: run, checkpoint, sentence, place. The order has no meaning, but a released analysis depends on it
    (`addends.replication.sentences.summed`). The files of both methods have the same.
    """
    key = ["run", "checkpoint", "sentence"]
    orders = [_sentence_level(by).rename(columns={"ckpt": "checkpoint"})[key].drop_duplicates() for by in TERMS]
    if not orders[0].reset_index(drop=True).equals(orders[1].reset_index(drop=True)):
        raise DataError("The sentence-level files of the two methods do not hold the same items in the same order.")
    frame = orders[0].assign(place=orders[0].groupby("run").cumcount())
    return frame.sort_values(key, kind="stable").reset_index(drop=True)


def tables() -> dict[str, pd.DataFrame]:
    """All six tables by name, each valid under its schema. Warns as ``quality`` does."""
    readers = (runs, quality, sentences, translations, measurements, trajectories)
    return {reader.__name__: reader() for reader in readers}


def _scores(metric: str) -> pd.DataFrame:
    frame = pd.read_csv(fetch(f"results/{metric}-scores2.csv"))
    score = frame["score"] * 100 if metric == "bleu" else frame["score"]
    run = frame["model"].map(run_of)
    return pd.DataFrame({"run": run, "checkpoint": frame["checkpoint"], "metric": metric, "score": score})


def _split_scores() -> tuple[pd.DataFrame, pd.DataFrame]:
    """The scores up to each run's last checkpoint, which is the last one with BLEU; and the stray ones past it."""
    scores = pd.concat([_scores(metric) for metric in schemas.METRICS])
    scores = scores.sort_values(["run", "metric", "checkpoint"], kind="stable")
    last = scores[scores["metric"] == "bleu"].groupby("run")["checkpoint"].max()
    stray = scores["checkpoint"] > scores["run"].map(last)
    return scores[~stray], scores[stray]


def _by_term(wide: pd.DataFrame, prefix: str, by: str) -> pd.DataFrame:
    """From one column a term and one row an indicator (index level "func") to one row a term, one column each."""
    terms = wide[[f"{prefix}{term}" for term in TERMS[by]]].set_axis(TERMS[by], axis=1)
    long = terms.melt(var_name="term", ignore_index=False).set_index("term", append=True)["value"]
    return long.unstack("func").rename_axis(columns=None)


def _sentence_level(by: str) -> pd.DataFrame:
    """The sentence-level files of one method, each source text replaced by its id."""
    suffix = {"sublayer": "", "token": ".oh-schuler"}[by]
    frames = []
    for run in RUNS:
        name = run.replace("-s", "_s") if run.startswith("rus") else run
        frames.append(pd.read_csv(fetch(f"results/sentence-level/res-sentence-level.{name}{suffix}.csv")))
    frame = pd.concat(frames, ignore_index=True)
    ids = {text: hashlib.sha256(text.encode()).hexdigest()[:12] for text in frame["src"].unique()}
    if len(set(ids.values())) < len(ids):
        raise DataError("Two source texts of the sentence-level files have the same id; the ids need more digits.")
    frame["sentence"] = frame["src"].map(ids)
    frame["run"] = frame["seed"].map(run_of)
    frame["func"] = frame["func"].map(INDICATOR_NAMES)
    return frame.drop(columns=["src", "tgt", "hyp", "seed"])


def _valid(frame: pd.DataFrame, table: str) -> pd.DataFrame:
    checked = schemas.validate(frame, table, origin="The released result files")
    return checked.sort_values(schemas.key(table), kind="stable").reset_index(drop=True)
