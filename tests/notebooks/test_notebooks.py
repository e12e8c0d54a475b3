"""The notebooks run from top to bottom for whoever adapts them: other tables, another model, other sentences.

(As they stand they are run by every build of the book.)
"""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest

from addends import findings, tables
from addends.figures import style
from tests.decomposition import small_models
from tests.notebooks.execution import NOTEBOOKS, glued, notebook, run, values
from tests.rounding import bound

ROOT = Path(__file__).parents[2]
TOY = str(ROOT / "data" / "toy")


@pytest.fixture(scope="module")
def other_model(tmp_path_factory, make_marian, tokenizer):
    folder = tmp_path_factory.mktemp("models") / "four_layers"
    make_marian(layers=4).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def other_family(tmp_path_factory, tokenizer):
    """A T5: norms without means, no biases, relative positions, a scaled output."""
    folder = tmp_path_factory.mktemp("models") / "t5"
    pad, end = tokenizer.pad_token_id, tokenizer.eos_token_id
    symbols = {"pad_token_id": pad, "eos_token_id": end, "decoder_start_token_id": pad}
    small_models.make("t5", vocab_size=len(tokenizer), **symbols).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.mark.slow
def test_one_sentence_of_another_model(other_model):
    found = glued(run(notebook("decompose_one_sentence"), model_name=other_model, source="la maison est grande"))
    for bits in (32, 64):
        assert 0 <= float(found[f"error{bits}"]) <= bound(f"float{bits}", layers=4)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["marian", "t5"])
def test_one_sentence_of_another_model_by_token(family, other_model, other_family):
    """Of a Marian with four layers; and of a T5, whose encoder has no biases that could go to the constants."""
    model_name = other_model if family == "marian" else other_family
    found = glued(
        run(notebook("decompose_one_sentence_by_token"), model_name=model_name, source="la maison est grande")
    )
    ratio = float(found["ratio"])
    layers, width = (4, 128) if family == "marian" else (2, 64)
    allowed = {bits: bound(f"float{bits}", layers, terms=3, longest_sum=width, cancellation=ratio) for bits in (32, 64)}
    for bits, most in allowed.items():
        assert 0 <= float(found[f"error{bits}"]) <= most
    assert sum(float(found[f"share_{term}"]) for term in "STC") == pytest.approx(1, abs=1e-5)
    assert 0 <= int(found["same"]) <= int(found["rows"])
    assert 0 <= float(found["odd_weight"]) <= 1
    assert float(found["lead"]) == pytest.approx(float(found["model_lead"]), abs=1e-4)
    moved = abs(float(found["to_constant"]))
    assert moved <= allowed[32] if family == "t5" else moved > 1e-3


@pytest.mark.slow
def test_indicators_of_another_model_and_other_runs(other_model):
    sentences = {"sources": ["il pleut"] * 3, "targets": ["it rains"] * 3}
    found = glued(run(notebook("follow_indicators_over_layers"), data=TOY, model_name=other_model, **sentences))
    assert found["runs"] == "3"
    assert found["sentences"] == "100"
    assert found["top_token"].strip("'").split(",")[0] in style.TERM_NAMES["token"].values()
    assert found["shared"].count(",") == 2  # the letters S, T and C, which both methods use


@pytest.mark.slow
def test_indicators_of_a_table_that_holds_the_reference_alone(tmp_path, other_model):
    """What the README's lines for one's own models write."""
    measured = tables.read_suite(TOY, "measurements")
    final = measured[(measured["target"] == "reference") & (measured["checkpoint"] == measured["checkpoint"].max())]
    tables.write(final, tmp_path / "measurements.parquet", "measurements")
    found = glued(
        run(
            notebook("follow_indicators_over_layers"),
            data=str(tmp_path),
            model_name=other_model,
            sources=["il pleut"],
            targets=["it rains"],
        )
    )
    assert "do not hold" in found["whose"]


@pytest.mark.slow
def test_indicators_of_a_table_that_holds_one_method_alone(tmp_path, other_model):
    measured = tables.read_suite(TOY, "measurements")
    tables.write(measured[measured["by"] == "sublayer"], tmp_path / "measurements.parquet", "measurements")
    found = glued(
        run(
            notebook("follow_indicators_over_layers"),
            data=str(tmp_path),
            model_name=other_model,
            sources=["il pleut"],
            targets=["it rains"],
        )
    )
    assert "none" in found["top_token"]
    assert "one method only" in found["shared"]


@pytest.mark.slow
@pytest.mark.parametrize("parameters", [{"data": TOY}, {"data": TOY, "by": "token", "indicator": "cosine"}])
def test_quality_of_other_runs(parameters):
    found = glued(run(notebook("compare_runs_and_quality"), **parameters))
    assert found["runs"] == "3"
    assert 0 <= float(found["size_rho_differences"]) <= 1


@pytest.mark.slow
@pytest.mark.parametrize("parameters", [{"data": TOY}, {"data": TOY, "by": "token", "indicator": "cosine"}])
def test_split_of_other_runs(parameters):
    found = glued(run(notebook("split_run_and_sentence"), **parameters))
    single = {name: float(found[f"{name}_share"]) for name in ("run", "sentence", "rest")}
    assert sum(single.values()) == pytest.approx(1, abs=1e-6)
    for name, share in single.items():
        assert float(found[f"{name}_share_lower"]) <= share <= float(found[f"{name}_share_upper"])
    for kind in ("these", "any"):
        shares = [float(found[f"{kind}_{name}_share"]) for name in ("run", "sentence", "interaction")]
        assert 0.9 < sum(shares) <= 1
        for name, share in zip(("run", "sentence", "interaction"), shares, strict=True):
            assert float(found[f"{kind}_{name}_share_lower"]) <= share <= float(found[f"{kind}_{name}_share_upper"])
    assert float(found["width_these"]) < float(found["width_any"])
    assert float(found["agreement"]) < 2  # per cent: with the same model by statsmodels
    assert found["runs"] == "3"


@pytest.fixture(scope="module")
def made_factorial(tmp_path_factory):
    """Three starts by four courses, a run that is alone in its row, and two runs again with other masks.

    The values are one toy run's. Starts move each sentence (SD .03), masks a little (SD .003), courses not at all.
    """
    folder, generator = tmp_path_factory.mktemp("suites") / "made", np.random.default_rng(0)
    (name, *_) = tables.read_suite(TOY, "runs")["run"]
    runs, measured = (tables.read_suite(TOY, table, [name]) for table in ("runs", "measurements"))
    measured = measured[(measured["checkpoint"] == measured["checkpoint"].max()) & (measured["target"] == "reference")]
    codes, sentences = pd.factorize(measured["sentence"])
    starts = generator.normal(0, 0.03, (5, len(sentences)))
    seeds = [(i, j, j) for i in (1, 2, 3) for j in (1, 2, 3, 4)] + [(4, 1, 1), (1, 1, 101), (2, 2, 102)]
    for i, j, d in seeds:
        run = f"i{i}-o{j}-d{d}"
        row = runs.assign(run=run, block="factorial", init_seed=i, order_seed=j, dropout_seed=d)
        moved = measured.assign(run=run)
        moved["importance"] += starts[i][codes] + generator.normal(0, 0.003, len(moved))
        for table, frame in (("runs", row), ("measurements", moved)):
            tables.write(frame, folder / table / f"{run}.parquet", table)
    return str(folder)


@pytest.mark.slow
def test_start_or_course_of_a_suite_with_a_floor_beside_one_without_tables(made_factorial, tmp_path):
    found = values(
        run(notebook("separate_start_and_course"), suites=[str(tmp_path / "not_yet"), made_factorial], permutations=199)
    )
    assert found["suite"] == "made"
    assert "not_yet" in found["skipped"]
    assert [found[name] for name in ("starts", "courses", "runs", "repeated", "left_out")] == [3, 4, 12, 2, 1]
    assert [found[f"pairs_{kind}"] for kind in ("start", "course", "neither")] == [18, 12, 36]
    shares = [found[f"{name}_share"] for name in ("start", "course", "both", "sentence", "rest")]
    by_sentence = [found[f"{name}_sentence_share"] for name in ("start", "course")]
    assert sum(shares + by_sentence) == pytest.approx(1)
    assert by_sentence[0] > 20 * by_sentence[1]
    assert found["start_beyond"] == found["cells"]
    assert "2" in found["floor_sentence"]
    counted = dict(re.findall(r"(start:sentence|course:sentence) in (\d+)", found["clear"]))
    assert int(counted["start:sentence"]) == found["cells"]  # starts move sentences, masks hardly do
    assert int(counted["course:sentence"]) <= found["cells"] / 4


@pytest.mark.slow
@pytest.mark.parametrize("parameters", [{"data": TOY}, {"data": TOY, "by": "sublayer", "metric": "nll"}])
def test_prediction_of_quality_of_other_runs(parameters):
    found = glued(run(notebook("predict_quality_within_runs"), **parameters))
    assert found["runs"] == "3"
    assert float(found["one_lower"]) <= float(found["one_mean"]) <= float(found["one_upper"])
    assert float(found["one_sd_lower"]) <= float(found["one_sd"]) <= float(found["one_sd_upper"])
    for quality in ("chrf", "nll"):
        for part in ("between", "within"):
            assert int(found[f"{quality}_{part}_survive"]) <= int(found[f"{quality}_{part}_fixed"])
            assert int(found[f"{quality}_{part}_tests"]) == int(found["pairs"])


@pytest.mark.slow
@pytest.mark.parametrize(
    "parameters",
    [
        {"data": TOY},
        {
            "data": TOY,
            "headline": [("cosine", "S", "token", 1), ("distance", "T", "token", -1)],
            "slopes": {"nll": "own"},
        },
    ],
)
def test_number_of_other_runs(parameters):
    found = glued(run(notebook("count_enough_runs"), **parameters))
    assert found["runs"] == found["three"] == "3"
    # Three runs are all there are: they say what all say.
    assert found["held"] == found["cells"]
    assert found["nothing"] == found["something"] == "0"
    for place in ("0", "1"):
        parts = [float(found[f"few_{place}_share{end}"]) for end in ("_lower", "", "_upper")]
        assert parts == sorted(parts)
        assert parts == [float(found[f"all_{place}_share{end}"]) for end in ("_lower", "", "_upper")]
        for end in ("lowest", "highest"):
            assert float(found[f"{end}_{place}"]) == pytest.approx(parts[1], rel=1e-9)  # from products of runs
    assert found["beats_few"] == found["beats_all"]
    assert float(found["paired_runs"]) <= float(found["difference_runs"])
    assert 0.85 <= float(found["covered_least"]) <= float(found["covered_most"]) <= 0.95


def check_replication(found: dict) -> None:
    """What the page says, whichever figures it shows."""
    assert found["derived"].strip("'") == "5,760"
    assert found["pooled"].strip("'") == "960"
    assert float(found["least_p"]) > 0.05
    assert float(found["cluster_holm"]) > 0.05
    assert float(found["own_share"]) > 2 * float(found["russian_share"])
    assert float(found["own_share"]) > float(found["russian_upper"]) > float(found["russian_share"])
    assert float(found["turned"]) > 90
    assert float(found["as_released"]) < 10
    assert float(found["true_sign"]) == pytest.approx(-float(found["released_sign"]), abs=0.02)
    assert float(found["pooled_released"]) > float(found["pooled_alone"]) + 0.1
    assert float(found["sum_signed"]) < 0 < float(found["sum_unsigned"])
    assert float(found["sd_seeds"]) > 3 * float(found["sd_samples"])
    assert float(found["items_released"]) > float(found["items_pooled"]) > float(found["items_within"])
    assert float(found["items_later"]) < 0.1
    assert float(found["size_rho_late_short_lag"]) < 0.2 * float(found["size_rho_pairs"])
    assert float(found["agree_late"]) < float(found["agree_early"])
    assert float(found["smallest_p"]) == pytest.approx(0.05)


@pytest.mark.slow
def test_published_results_without_the_released_files(monkeypatch):
    monkeypatch.delenv("ADDENDS_DATA", raising=False)
    found = glued(run(notebook("replicate_published_results")))
    assert "not here: all figures are stored ones" in found["shown"]
    assert "Nothing was computed anew" in found["checked"]
    check_replication(found)


@pytest.mark.slow
def test_published_results_with_the_released_files(data_folder):
    if not (data_folder / "published").is_dir():
        pytest.skip("needs ADDENDS_DATA: a folder that holds published/")
    found = glued(run(notebook("replicate_published_results")))
    assert "Layers 6 by sublayer" in found["shown"]
    assert "computed now" in found["shown"]
    apart = re.search(r"within (\S+) of the stored", found["checked"])
    assert float(apart[1]) <= 1e-4  # the stored figures have four decimals
    check_replication(found)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_figures_have_captions_and_alt_text_and_cells_are_short(path):
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code":
            assert len([line for line in cell.source.splitlines() if line.strip()]) <= 15
            if any(drawing in cell.source for drawing in ("plots.", "heatmap.", "subplots(")):
                mystnb = cell.metadata["mystnb"]
                assert len(mystnb["figure"]["caption"]) > 20
                assert len(mystnb["image"]["alt"]) > 20


@pytest.mark.slow
def test_what_the_parts_do():
    found = values(run(notebook("replace_parts")))
    asked = tables.read_suite(ROOT / "data" / "european", "interventions")
    assert found["runs"] == asked["run"].nunique()
    assert found["gap"] < 1e-5  # the direct effect on a logit is minus the share
    total = asked[(asked["effect"] == "total") & (asked["replace"] == "mean") & asked["layer"].isna()]
    lost = total[total["term"] == "S"].groupby("run")["logprob"].mean()
    assert found["lost_S_estimate"] == pytest.approx(lost.mean(), rel=1e-5)
    assert found["lost_S_lower"] < found["lost_S_estimate"] < found["lost_S_upper"] < 0
    for term in "STF":
        limits = [found[f"total_{term}_importance_{end}"] for end in ("lower", "estimate", "upper")]
        assert limits == sorted(limits)
    # What the page says in words.
    assert found["total_S_importance_lower"] > found["total_T_importance_upper"] > found["detectable"]


@pytest.mark.slow
def test_what_source_tokens_do():
    found = values(run(notebook("replace_parts")))
    frame = tables.read_suite(ROOT / "data" / "european", "attributions")
    frame = frame[~frame["special_tokens"]].assign(beyond=lambda rows: rows["agreement"] - rows["permuted"])
    means = frame.groupby(["kind", "method", "sense", "yardstick"])["agreement"].mean()["attribution"]
    ours = "part share, centred, through encoder"
    assert found["source_pairs"] == 12 * 11 / 2
    for yardstick in tables.YARDSTICKS:
        for name, method, sense in (
            ("length", "gradient, length", "size"),
            ("ours", ours, "size"),
            ("signed", ours, "signed"),
            ("gradient", "gradient", "signed"),
        ):
            limits = [found[f"source_{name}_{yardstick}_{end}"] for end in ("lower", "estimate", "upper")]
            assert limits == sorted(limits)
            assert limits[1] == pytest.approx(means[method, sense, yardstick], rel=1e-5)
        gap = means[ours, "signed", yardstick] - means["gradient", "signed", yardstick]
        assert found[f"source_gap_{yardstick}_estimate"] == pytest.approx(gap, abs=1e-6)
        assert found[f"source_gap_{yardstick}_lower"] < gap < found[f"source_gap_{yardstick}_upper"]
        # What the page says in words: which is first, which of our parts is the best, and that place is hard to beat.
        by_size, by_sign = (means.xs((sense, yardstick), level=("sense", "yardstick")) for sense in tables.SENSES)
        assert by_size.idxmax() == "gradient, length"
        assert by_size[by_size.index.str.startswith("part")].idxmax() == by_sign.idxmax() == ours
    assert found["source_above_embedding"] < found["source_below_embedding"]
    assert found["source_led_lower"] > 0  # ALTI is ahead by average embeddings, once special tokens are ranked too
    beyond = frame.groupby(["kind", "method", "sense", "yardstick"])["beyond"].mean()["attribution"]
    assert beyond.xs(("size", "embedding"), level=("sense", "yardstick")).idxmax() == "attention"
    assert found["source_turned_size"] < found["source_same_size"] / 5
    assert found["source_turned_signed"] < found["source_same_signed"] / 5


@pytest.mark.slow
def test_findings_are_said_as_they_are_asserted():
    done = run(notebook("read_findings"))
    said = "\n".join(
        output.data["text/markdown"]
        for cell in done.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if "text/markdown" in output.get("data", {})
    )
    evidence = findings.read_evidence(ROOT / "data", ROOT / "book" / "claims.yaml")
    for row in findings.checked(evidence).itertuples():
        assert f"{row.sentence} [{row.name}](../book/assertions.html#addends.findings.headlines.{row.function})" in said
    for name, claim in evidence.claims.claims.items():
        assert f"**{name}. {claim.claim.rstrip('.')}:" in said
    assert values(done)["least"] >= 1


@pytest.mark.slow
def test_two_runs_spaces():
    found = values(run(notebook("compare_spaces")))
    pairs = tables.read_suite(ROOT / "data" / "european", "run_pairs")
    runs = tables.read_suite(ROOT / "data" / "european", "runs")
    pairs = pairs[pairs["a"].isin(runs.loc[runs["block"] == "independent", "run"])]
    assert found["compared"] == len(set(pairs["a"]) | set(pairs["b"]))
    assert found["cka_permuted_upper"] < found["cka_all_lower"]
    states = pairs[(pairs["by"] == "state") & (pairs["layer"] == pairs["layer"].max()) & (pairs["rows"] == "all")]
    assert found["cka_all_mean"] == pytest.approx(states.loc[states["a"] != states["b"], "cka"].mean(), rel=1e-5)
    # What the page says in words.
    assert found["importance_S"] > found["cka_S"] + 0.1
    assert abs(found["kind_start"] - found["kind_other_masks"]) < (found["kind_start"] - found["kind_neither"]) / 3
    assert found["start_lower"] > 0.05 > found["course_upper"]


@pytest.mark.slow
def test_one_runs_decoder_reads_anothers_encoder():
    found = values(run(notebook("compare_spaces")))
    stitches = tables.read_suite(ROOT / "data" / "european", "stitches")
    read = stitches[(stitches["place"] == "encoder") & (stitches["start"] == "run")]
    runs = tables.read_suite(ROOT / "data" / "european", "runs").set_index("run")["block"]
    read = read[(read["decoder"].map(runs) == "independent") & (read["encoder"].map(runs) == "independent")]
    assert found["stitched_real"] == read["decoder"].nunique()
    for kind in ("own", "random", "rotation"):
        mean = read.loc[read["map"] == kind, "bleu"].mean()
        assert found[f"bleu_real_{kind}_mean"] == pytest.approx(mean, rel=1e-5)
    # What the page says in words.
    for suite in ("real", "made"):
        assert abs(found[f"way_{suite}_none_estimate"]) < found[f"way_{suite}_untrained_estimate"]
        order = [found[f"way_{suite}_{kind}_estimate"] for kind in ("untrained", "rotation", "affine", "trained")]
        assert order == sorted(order)
        assert order[-1] < 1
    assert found["way_real_trained_upper"] < 1
    assert not any(name.startswith("way_made") and name.endswith("er") for name in found)  # runs share starts there
    assert found["inside_lowest"] > found["way_real_rotation_upper"]
    assert found["stitch_start_lower"] > 0.1 > found["stitch_course_upper"]
    assert found["unmapped_start"] > 0.3 > 0.1 > abs(found["unmapped_neither"])
