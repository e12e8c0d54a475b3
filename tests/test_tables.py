"""Tables: what is written is what is read, whole or not at all, and nothing that breaks a schema passes."""

from __future__ import annotations

import errno

import numpy as np
import pandas as pd
import pytest

from addends import tables
from addends.errors import DataError, InputError

FRAMES = {
    "runs": {
        "run": ["a", "b"],
        "suite": "toy",
        "block": "independent",
        "condition": "ora",
        "pairs": [20_000, None],
        "init_seed": [1, None],
        "order_seed": [2, None],
        "dropout_seed": [3, None],
        "languages": "ora+uri",
        "layers": 2,
        "dim": 64,
        "parameters": [1_000_000, None],
        "steps": 500,
        "lineage": ["chain", "none"],
    },
    "quality": {
        "run": "a",
        "checkpoint": [10, 20],
        "set": ["held_out", "further"],
        "metric": ["bleu", "nll"],
        "score": [1.25, None],
    },
    "sentences": {"sentence": ["x", "y"], "language": "fra", "source_tokens": [3, None], "target_tokens": [4, 5]},
    "translations": {
        "run": "a",
        "checkpoint": [10, 20],
        "sentence": "x",
        "chrf": [0.0, 50.5],
        "bleu": [0.0, None],
        "nll": [7.5, 1.0],
        "tokens": [None, 8],
    },
    "further": {
        "run": "a",
        "checkpoint": [10, 20],
        "sentence": "y",
        "chrf": [0.0, 50.5],
        "bleu": [0.0, None],
        "nll": [7.5, 1.0],
        "tokens": [None, 8],
    },
    "training": {
        "run": "a",
        "step": [100, 200],
        "loss": [7.5, None],
        "gradient_norm": [1.0, 0.5],
        "learning_rate": 1e-3,
    },
    "manifest": {
        "run": ["a", "b"],
        "checkpoint": 0,
        "weights": "0" * 64,
        **{name: ["1" * 64, None] for name in ("optimizer", "scheduler", "generators", "batches", "previous")},
        **{name: ["2" * 64, None] for name in ("configuration", "model", "tokenizer")},
        "processor": ["one", None],
        "instructions": ["AVX512", None],
        "threads": [1, None],
        "interop_threads": [2, None],
        "torch": ["2.13.0", None],
        "transformers": ["5.23.0", None],
    },
    "measurements": {
        "run": "a",
        "checkpoint": 10,
        "target": ["own", "reference"],
        "sentence": "x",
        "layer": 0,
        "by": "sublayer",
        "term": "S",
        "importance": [0.0, 0.5],
        "cosine": [None, -0.5],
        "norm_ratio": [0.0, 1.5],
        "distance": [4.0, 2.0],
        "tokens": [3, 4],
    },
    "trajectories": {
        "run": "a",
        "checkpoint": 10,
        "target": "own",
        "layer": [0, 1],
        "by": "token",
        "term": "T",
        "importance": [1.0, 0.5],
        "cosine": [1.0, 0.25],
        "norm_ratio": 1.0,
        "distance": [0.0, 2.0],
    },
    "interventions": {
        "run": "a",
        "sentence": "x",
        "effect": ["direct", "total"],
        "replace": ["mean", "zero"],
        "by": "sublayer",
        "layer": [3, None],
        "term": "S",
        "logprob": [-0.25, 0.5],
        "logit": [-0.5, 0.25],
        "share": [0.5, -0.25],
        "importance": [0.5, 0.0],
        "cosine": [0.5, None],
        "norm_ratio": [0.25, 0.0],
        "tokens": [3, 4],
    },
    "token_agreement": {
        "run": "a",
        "effect": ["direct", "total"],
        "replace": "mean",
        "by": "sublayer",
        "layer": [3, None],
        "term": "S",
        "said": ["share", "importance"],
        "rho": [0.5, None],
        "permuted": [0.25, None],
        "tokens": 30,
    },
    "attributions": {
        "run": "a",
        "method": ["alti", "removal, part"],
        "kind": ["attribution", "removal"],
        "yardstick": ["mask", "embedding"],
        "sense": "size",
        "special_tokens": [True, False],
        "agreement": [0.5, -0.25],
        "permuted": [0.25, 0.0],
        "rows": [30, 20],
        "sentences": 3,
    },
    "run_pairs": {
        "a": "a",
        "b": ["b", "a"],
        "checkpoint": 20,
        "b_checkpoint": [20, 10],
        "layer": 1,
        "by": ["state", "token"],
        "term": ["state", "S"],
        "rows": ["all", "within types"],
        "tokens": [30, 20],
        "cka": [0.5, None],
        "cka_se": [0.25, None],
        "procrustes": [0.5, 1.25],
        "procrustes_se": [0.25, 0.5],
        "importance": [None, 0.5],
        "cosine": [None, 0.5],
        "norm_ratio": [None, -0.5],
        "distance": [None, 0.25],
        "kl": [0.5, None],
        "kl_se": [0.125, None],
    },
    "stitches": {
        "encoder": "a",
        "decoder": "b",
        "place": ["encoder", "layer"],
        "layer": [None, 1],
        "map": ["trained", "affine"],
        "start": ["untrained", "run"],
        "bleu": [12.5, None],
        "chrf": [30.5, None],
        "nll": [3.5, 4.5],
        "explained": [-0.5, 0.75],
        "penalty": [None, 0.125],
    },
}
EVERY = pytest.mark.parametrize("table", list(tables.SCHEMAS))


def frame_of(table: str) -> pd.DataFrame:
    return pd.DataFrame(FRAMES[table])


@pytest.fixture
def quality():
    return frame_of("quality")


@EVERY
def test_what_is_written_is_what_is_read(tmp_path, table):
    given = frame_of(table)
    back = tables.read(tables.write(given, tmp_path / "new" / "table.parquet", table), table)
    assert list(back) == [name for name in tables.SCHEMAS[table].columns if name in given]
    pd.testing.assert_frame_equal(back[list(given)], given, check_dtype=False)
    assert (back.isna() == given[list(back)].isna()).all(axis=None)


@EVERY
def test_types_survive_and_do_not_depend_on_the_types_given(tmp_path, table):
    given = frame_of(table)
    written = tables.validate(given, table)
    counts_as_floats = given.astype({name: "float64" for name in given.select_dtypes("number")})
    pd.testing.assert_frame_equal(tables.validate(counts_as_floats, table), written)
    pd.testing.assert_frame_equal(tables.read(tables.write(given, tmp_path / "a.parquet", table), table), written)


def test_order_of_columns_and_labels_of_rows_do_not_matter(quality):
    shuffled = quality[list(quality)[::-1]].set_axis([7, 7])
    pd.testing.assert_frame_equal(tables.validate(shuffled, "quality"), tables.validate(quality, "quality"))


def test_validate_leaves_the_frame_given_as_it_was(quality):
    before = quality.set_axis([5, 6]).copy()
    given = before.copy()
    tables.validate(given, "quality")
    pd.testing.assert_frame_equal(given, before)


def test_comet_may_be_there_or_not(tmp_path):
    plain = frame_of("translations")
    tables.write(plain, tmp_path / "a.parquet", "translations")
    tables.write(plain.assign(run="b", comet=0.5), tmp_path / "b.parquet", "translations")
    back = tables.read(tmp_path, "translations")
    assert back["comet"].isna().tolist() == [True, True, False, False]
    assert back["comet"].dtype == "float32"


def test_a_folder_is_all_its_files(tmp_path, quality):
    for run in ("b", "a"):
        tables.write(quality.assign(run=run), tmp_path / "quality" / f"{run}.parquet", "quality")
    back = tables.read(tmp_path / "quality", "quality")
    assert back["run"].tolist() == ["a", "a", "b", "b"]
    assert back.index.tolist() == [0, 1, 2, 3]
    pd.testing.assert_frame_equal(tables.read_suite(tmp_path, "quality"), back)


def test_a_suites_single_file_is_found(tmp_path, quality):
    tables.write(quality, tmp_path / "quality.parquet", "quality")
    assert len(tables.read_suite(tmp_path, "quality")) == 2


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, quality, monkeypatch):
    path = tables.write(quality, tmp_path / "quality.parquet", "quality")
    before = path.read_bytes()

    def half(self, target, **options):
        with open(target, "wb") as stream:
            stream.write(b"PAR1 half a file")
        raise KeyboardInterrupt

    monkeypatch.setattr(pd.DataFrame, "to_parquet", half)
    with pytest.raises(KeyboardInterrupt):
        tables.write(quality.assign(score=2.0), path, "quality")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_the_old_file_stands_until_the_new_one_is_whole(tmp_path, quality, monkeypatch):
    path = tables.write(quality, tmp_path / "quality.parquet", "quality")
    real, seen = pd.DataFrame.to_parquet, []

    def watched(self, target, **options):
        real(self, target, **options)
        seen.append(tables.read(path, "quality")["score"].iloc[0])

    monkeypatch.setattr(pd.DataFrame, "to_parquet", watched)
    tables.write(quality.assign(score=2.0), path, "quality")
    assert seen == [1.25]
    assert tables.read(path, "quality")["score"].tolist() == [2.0, 2.0]


def test_a_frame_that_breaks_the_schema_does_not_replace_a_file(tmp_path, quality):
    path = tables.write(quality, tmp_path / "quality.parquet", "quality")
    with pytest.raises(DataError, match=r"(?s)quality\.parquet.*'more' is unknown"):
        tables.write(quality.assign(more=1), path, "quality")
    assert list(tables.read(path, "quality")) == list(quality)


def test_a_leftover_of_a_killed_write_is_not_read(tmp_path, quality):
    tables.write(quality, tmp_path / "a.parquet", "quality")
    (tmp_path / ".a.parquet.x1.part").write_bytes(b"half")
    assert len(tables.read(tmp_path, "quality")) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"score": [np.inf, 1.0]}, r"'score'.*infinite"),
        ({"score": [-np.inf, 1.0]}, r"'score'.*infinite"),
        ({"score": ["much", 1.0]}, r"'score'.*much"),
        ({"metric": ["bleu", "ter"]}, r"'metric'.*comet.*'ter'"),
        ({"checkpoint": [10, -1]}, r"'checkpoint'.*-1"),
        ({"checkpoint": [10, 10.5]}, r"'checkpoint': whole numbers.*10\.5"),
        ({"checkpoint": [10, None]}, r"'checkpoint'.*null"),
        ({"run": ["a", None]}, r"'run'.*null"),
        ({"more": 1}, r"'more' is unknown"),
        (
            {"checkpoint": 10, "set": "held_out", "metric": "bleu"},
            r"1 row\(s\) repeat.*run='a', checkpoint=10, set='held_out', metric='bleu'",
        ),
    ],
)
def test_rows_that_break_the_schema_are_refused_and_the_file_is_named(tmp_path, quality, change, message):
    bad = quality.assign(**change)
    with pytest.raises(DataError, match=f"(?s)frame.*{message}.*Its columns are"):
        tables.validate(bad, "quality")
    file = tmp_path / "bad.parquet"
    bad.astype({"score": "str"} if bad["score"].dtype == object else {}).to_parquet(file)
    with pytest.raises(DataError, match=f"(?s){file}.*'quality'.*{message}"):
        tables.read(file, "quality")


@EVERY
def test_every_column_of_the_key_is_wanted(table):
    given = frame_of(table)
    for name in tables.key(table):
        with pytest.raises(DataError, match=f"no column '{name}'"):
            tables.validate(given.drop(columns=name), table)


@EVERY
def test_the_same_row_twice_is_refused(table):
    given = frame_of(table)
    with pytest.raises(DataError, match=r"2 row\(s\) repeat the key"):
        tables.validate(pd.concat([given, given]), table)


def test_a_count_that_may_be_missing_is_not_cut_to_a_whole_number():
    with pytest.raises(DataError, match=r"'source_tokens': whole numbers are wanted \(e\.g\. 2\.5\)"):
        tables.validate(frame_of("sentences").assign(source_tokens=[2.5, None]), "sentences")


@pytest.mark.parametrize("given", [["yes", "no"], [1, 0], [True, None]])
def test_a_flag_is_true_or_false_and_nothing_that_can_be_read_as_such(given):
    with pytest.raises(DataError, match=r"'special_tokens': True and False are wanted, and not"):
        tables.validate(frame_of("attributions").assign(special_tokens=given), "attributions")


def test_a_key_in_two_files_is_refused_and_both_are_named(tmp_path, quality):
    for name, run in (("a", "a"), ("b", "b"), ("copy", "a")):
        tables.write(quality.assign(run=run), tmp_path / f"{name}.parquet", "quality")
    with pytest.raises(
        DataError, match=r"a\.parquet, copy\.parquet \(run='a', checkpoint=10, set='held_out', metric='bleu'\)"
    ) as caught:
        tables.read(tmp_path, "quality")
    assert str(tmp_path) in str(caught.value)
    assert "b.parquet" not in str(caught.value)


@pytest.mark.parametrize("kept", [0, 3, 0.5, -2])
def test_a_truncated_file_is_refused_by_name(tmp_path, quality, kept):
    tables.write(quality, tmp_path / "a.parquet", "quality")
    whole = tables.write(quality.assign(run="b"), tmp_path / "b.parquet", "quality").read_bytes()
    (tmp_path / "b.parquet").write_bytes(whole[: int(kept * len(whole)) if kept == 0.5 else kept])
    with pytest.raises(DataError, match=r"b\.parquet cannot be read as parquet.*truncated.*version control"):
        tables.read(tmp_path, "quality")


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir()], ids=["absent", "empty folder"])
def test_a_missing_table_is_named(tmp_path, make):
    make(tmp_path / "quality")
    with pytest.raises(DataError, match=f"No 'quality' table at {tmp_path / 'quality'}"):
        tables.read_suite(tmp_path, "quality")


def test_an_unknown_table_is_refused(quality):
    for call in (
        lambda: tables.validate(quality, "scores"),
        lambda: tables.read("x", "scores"),
        lambda: tables.key("s"),
    ):
        with pytest.raises(InputError, match=r"is not one of.*'quality'"):
            call()


@pytest.mark.parametrize("single", [True, False], ids=["one file", "a file a run"])
def test_chosen_runs_alone_are_read(tmp_path, quality, single):
    frames = {run: quality.assign(run=run) for run in "abc"}
    if single:
        tables.write(pd.concat(frames.values()), tmp_path / "quality.parquet", "quality")
    else:
        for run, frame in frames.items():
            tables.write(frame, tmp_path / "quality" / f"{run}.parquet", "quality")
        (tmp_path / "quality" / "b.parquet").write_bytes(b"cut off")  # not asked for, so not read
    read = tables.read_suite(tmp_path, "quality", ["c", "a", "c"])
    assert read["run"].tolist() == ["c", "c", "a", "a"]
    with pytest.raises(DataError, match=r"no table 'quality' of the runs \['z'\]\. It has those of \['a', 'b', 'c'\]"):
        tables.read_suite(tmp_path, "quality", ["a", "z"])
    with pytest.raises(DataError, match=r"of the runs \[\]"):
        tables.read_suite(tmp_path, "quality", [])
    with pytest.raises(InputError, match=r"runs='a' is one string.*\['a'\]"):
        tables.read_suite(tmp_path, "quality", "a")


def test_a_table_without_runs_is_read_whole(tmp_path):
    tables.write(frame_of("sentences"), tmp_path / "sentences.parquet", "sentences")
    assert len(tables.read_suite(tmp_path, "sentences", ["a"])) == 2


# A part of a table


def suite_of(folder):
    """Two runs of measurements, 2 targets x 2 layers x 3 terms x 2 checkpoints each, a file a run."""
    places = pd.MultiIndex.from_product(
        [("own", "reference"), (0, 1), ("S", "T", "C"), (10, 20)], names=["target", "layer", "term", "checkpoint"]
    )
    frame = places.to_frame(index=False).assign(sentence="x", by="sublayer", tokens=3)
    for number, name in enumerate(tables.INDICATORS):
        frame[name] = np.linspace(-1, 1, len(frame)) + number
    for run in ("a", "b"):
        tables.write(frame.assign(run=run), folder / "measurements" / f"{run}.parquet", "measurements")
    return tables.read_suite(folder, "measurements")


FILTERS = [
    ([], lambda f: f["layer"] >= 0),
    ([("layer", "==", 1)], lambda f: f["layer"] == 1),
    ([("layer", "!=", 1), ("target", "==", "own")], lambda f: (f["layer"] != 1) & (f["target"] == "own")),
    (
        [("term", "in", ["S", "C"]), ("checkpoint", ">=", 15)],
        lambda f: f["term"].isin(["S", "C"]) & (f["checkpoint"] > 15),
    ),
    ([("term", "not in", ("S",)), ("checkpoint", "<", 20)], lambda f: (f["term"] != "S") & (f["checkpoint"] < 20)),
    ([("importance", ">", 0.0), ("cosine", "<=", 1.5)], lambda f: (f["importance"] > 0) & (f["cosine"] <= 1.5)),
    ([("layer", "==", 7)], lambda f: f["layer"] == 7),
]


@pytest.mark.parametrize("columns", [None, ["cosine", "run", "term"], ["layer"]])
@pytest.mark.parametrize("single", [True, False], ids=["one file", "a file a run"])
def test_a_part_is_what_the_whole_table_gives(tmp_path, columns, single):
    whole = suite_of(tmp_path)
    if single:
        tables.write(whole, tmp_path / "measurements.parquet", "measurements")
    for number, (filters, kept) in enumerate(FILTERS):
        runs = [None, ["b", "a"], ["b"]][number % 3]
        rows = whole if runs is None else pd.concat([whole[whole["run"] == run] for run in runs])
        expected = rows[kept(rows)]
        if columns is not None:
            expected = expected[[name for name in whole if name in columns]]
        found = tables.read_suite(tmp_path, "measurements", runs, columns, filters)
        pd.testing.assert_frame_equal(found, expected.reset_index(drop=True))


def test_what_is_left_out_is_not_read(tmp_path, monkeypatch):
    suite_of(tmp_path)
    asked = []
    real = pd.read_parquet

    def watched(file, **options):
        found = real(file, **options)
        asked.append((options["columns"], len(found)))
        return found

    monkeypatch.setattr(pd, "read_parquet", watched)
    tables.read_suite(tmp_path, "measurements", ["a"], ["run", "cosine"], [("layer", "==", 1), ("term", "==", "S")])
    assert asked == [(["run", "cosine"], 4)]


def test_a_part_is_checked_as_the_whole_is(tmp_path):
    whole = suite_of(tmp_path)
    file = tmp_path / "measurements" / "a.parquet"
    part = {"columns": [*tables.key("measurements"), "cosine"], "filters": [("layer", "==", 1)]}

    def altered(**change):
        whole[whole["run"] == "a"].assign(**change).to_parquet(file)
        return lambda: tables.read_suite(tmp_path, "measurements", **part)

    altered()()
    for change, message in (
        ({"cosine": np.inf}, r"a\.parquet.*'cosine'.*infinite"),
        ({"by": "nothing"}, r"a\.parquet.*'by'.*nothing"),
        ({"checkpoint": 10}, r"a\.parquet.*repeat the key"),
        ({"run": "b"}, r"more than one of its files, a\.parquet, b\.parquet"),
        ({"more": 1}, r"a\.parquet.*'more' is unknown"),
        ({"layer": "1"}, r"do not fit the columns of .*a\.parquet"),
    ):
        with pytest.raises((DataError, InputError), match=f"(?s){message}"):
            altered(**change)()
    whole.drop(columns="distance").to_parquet(file)  # not asked for, but the table's
    with pytest.raises(DataError, match=r"(?s)a\.parquet.*no column 'distance'"):
        tables.read_suite(tmp_path, "measurements", **part)
    file.write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"a\.parquet cannot be read as parquet"):
        tables.read_suite(tmp_path, "measurements", **part)


def test_a_column_that_need_not_be_there_passes_no_filter(tmp_path):
    plain = frame_of("translations")
    tables.write(plain, tmp_path / "a.parquet", "translations")
    tables.write(plain.assign(run="b", comet=0.5), tmp_path / "b.parquet", "translations")
    found = tables.read(tmp_path, "translations", ["run", "comet"], [("comet", ">", 0)])
    assert found["run"].tolist() == ["b", "b"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"columns": "run"}, r"columns='run' is one string.*\['run'\]"),
        ({"columns": ["ran"]}, r"columns.*'ran'.*'run'"),
        ({"columns": []}, "names none"),
        ({"filters": [("ran", "==", 1)]}, r"column of a filter.*'ran'.*'run'"),
        ({"filters": [("layer", "=", 1)]}, r"comparison of a filter.*'='.*'not in'"),
        ({"filters": ["layer == 1"]}, "triples"),
        ({"filters": [("layer", "==", "one")]}, "do not fit the columns"),
        ({"filters": [("layer", "in", 1)]}, "do not fit the columns"),
    ],
)
def test_a_part_that_cannot_be_meant_is_refused(tmp_path, given, message):
    suite_of(tmp_path)
    with pytest.raises(InputError, match=message):
        tables.read_suite(tmp_path, "measurements", **given)


# The runs of a block


@pytest.mark.parametrize("single", [True, False], ids=["one file", "a file a run"])
def test_the_runs_of_a_block_come_in_the_order_of_their_seeds(tmp_path, single):
    one = frame_of("runs").iloc[[0]]
    seeds = {"r-10": (10, 1), "r-2": (2, 9), "r-2b": (2, 3), "r-0": (None, None), "other": (1, 1)}
    rows = [
        one.assign(run=run, init_seed=init, order_seed=order, block="sizes" if run == "other" else "independent")
        for run, (init, order) in seeds.items()
    ]
    if single:
        tables.write(pd.concat(rows), tmp_path / "runs.parquet", "runs")
    else:
        for run, row in zip(seeds, rows, strict=True):
            tables.write(row, tmp_path / "runs" / f"{run}.parquet", "runs")
    assert tables.runs_in(tmp_path, "independent") == ["r-2b", "r-2", "r-10", "r-0"]
    assert tables.runs_in(tmp_path, "sizes") == ["other"]
    assert tables.runs_in(tmp_path) == ["other", "r-2b", "r-2", "r-10", "r-0"]
    with pytest.raises(InputError, match=r"runs_in\(.*block='size'.*'independent', 'sizes'"):
        tables.runs_in(tmp_path, "size")


def test_without_a_table_of_runs_all_are_those_that_were_measured(tmp_path):
    suite_of(tmp_path)
    assert tables.runs_in(tmp_path) == ["a", "b"]
    with pytest.raises(DataError, match="No 'runs' table"):
        tables.runs_in(tmp_path, "independent")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.assign(checkpoint=pd.Series([10, 20.5], dtype=object)), r"'checkpoint': whole numbers.*20\.5"),
        (lambda d: d.assign(checkpoint=[False, True]), "'checkpoint': whole numbers are wanted, and not bool"),
        (
            lambda d: d.assign(checkpoint=pd.to_datetime(["2020", "2021"])),
            "'checkpoint': whole numbers .* not datetime",
        ),
        (lambda d: d.assign(score=[1 + 2j, 3]), "'score': numbers are wanted, and not complex"),
        (lambda d: pd.concat([d, d[["score"]]], axis=1), "the column 'score' stands twice"),
    ],
)
def test_a_cast_never_changes_what_was_given(change, message):
    frame = pd.DataFrame(FRAMES["quality"])
    with pytest.raises(DataError, match=message):
        tables.validate(change(frame), "quality")


def test_a_file_named_after_one_run_holds_no_other(tmp_path):
    frame = pd.DataFrame(FRAMES["quality"])
    both = pd.concat([frame, frame.assign(run="b")])
    tables.write(both, tmp_path / "quality" / "a.parquet", "quality")
    for columns in (None, ["score"]):
        with pytest.raises(DataError, match=r"a\.parquet holds rows of \['b'\]"):
            tables.read_suite(tmp_path, "quality", ["a"], columns)


def test_a_table_says_what_it_was_made_of_and_nothing_where_nothing_was_said(tmp_path):
    frame = pd.DataFrame(FRAMES["quality"])
    file = tables.write(frame, tmp_path / "a.parquet", "quality", {"the seed": "0"})
    assert tables.made_of(file, "quality") == {"the seed": "0"}
    tables.write(tables.read(file, "quality"), file, "quality")  # what was read is not said again of what is written
    assert tables.made_of(file, "quality") == {}
    with pytest.raises(DataError, match="no 'runs' table: it has no column"):
        tables.made_of(file, "runs")
    file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(DataError, match="cannot be read as parquet"):
        tables.made_of(file, "quality")


def test_a_filter_by_a_list_without_a_value_is_refused_in_words(tmp_path):
    file = tables.write(pd.DataFrame(FRAMES["quality"]), tmp_path / "a.parquet", "quality")
    with pytest.raises(InputError, match="'run' is to be in a list that has no value"):
        tables.read(file, "quality", filters=[("run", "in", [])])


def test_a_full_disk_is_said_with_the_name_of_the_file(tmp_path):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    target = tmp_path / "runs.parquet"
    with pytest.raises(
        OSError, match=r"runs.parquet could not be written \(No space left on device\). Make room"
    ) as raised:
        tables.write_atomically(target, full)
    assert raised.value.errno == errno.ENOSPC
    assert not list(tmp_path.iterdir())
