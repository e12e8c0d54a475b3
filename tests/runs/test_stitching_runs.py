"""Stitching runs: every row is there, a twin is read as oneself, maps stand in order, bad input."""

from __future__ import annotations

import dataclasses
import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from addends import tables
from addends.decomposition import encode, translate
from addends.errors import DataError, InputError
from addends.interventions import maps, reading, stitching
from addends.runs import existing, sentences, stitching_runs, training
from addends.runs.quality import corpus_scores, negative_log_likelihood
from addends.runs.suite import UNKNOWN, ExistingModel
from tests.runs import tiny_suite
from tests.runs.tiny_suite import SUITE


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Three runs; the third is replaced by a twin of the first."""
    folder = tmp_path_factory.mktemp("stitched")
    tiny_suite.train(folder / "work", folder / "trained")
    shutil.rmtree(folder / "work" / "tiny" / "c")
    shutil.copytree(folder / "work" / "tiny" / "a", folder / "work" / "tiny" / "c")
    return folder


@pytest.fixture(scope="module")
def stitches(trained):
    files = stitching_runs.stitch(SUITE, ["a", "b", "c"], trained / "work", trained / "data", steps=5)
    assert [file.name for file in files] == ["a.parquet", "b.parquet", "c.parquet"]
    return tables.read_suite(trained / "data" / "tiny", "stitches")


def test_every_pair_place_and_map_is_there(stitches):
    read = stitches[stitches["place"] == "encoder"]
    counts = read.groupby(["decoder", "map", "start"]).size().unstack(["map", "start"]).loc["a"]
    assert counts["own", "run"] == 1
    assert counts["trained", "untrained"] == 1
    assert all(counts[kind, "run"] == 2 for kind in ("none", "random", "rotation", "affine", "trained"))
    inside = stitches[stitches["place"] == "layer"]
    assert len(inside) == 6 * 1 * 4  # ordered pairs, layers, maps
    assert inside["bleu"].isna().all()
    assert inside["nll"].notna().all()


def test_a_twin_is_read_as_oneself_by_every_map_that_can_be_the_identity(stitches):
    rows = stitches[(stitches["decoder"] == "a") & (stitches["place"] == "encoder")].set_index(["encoder", "map"])
    own = rows.loc[("a", "own")]
    for kind in ("none", "rotation"):
        for quality in ("bleu", "chrf", "nll"):
            assert rows.loc[("c", kind), quality] == pytest.approx(own[quality], rel=1e-4 if kind == "rotation" else 0)
        assert rows.loc[("c", kind), "explained"] == pytest.approx(1, abs=1e-6)
    assert rows.loc[("c", "random"), "explained"] < 0.5


def test_a_fitted_map_explains_more_than_none_and_an_affine_one_more_than_a_rotation(stitches):
    other = stitches[(stitches["encoder"] == "b") & (stitches["decoder"] == "a") & (stitches["place"] == "encoder")]
    explained = other[other["start"] == "run"].set_index("map")["explained"]
    assert explained["affine"] > explained["rotation"] > max(explained["none"], explained["random"])


def test_a_twins_lower_layers_are_ones_own(stitches):
    rows = stitches[(stitches["decoder"] == "a") & (stitches["place"] == "layer") & (stitches["encoder"] == "c")]
    own = stitches[(stitches["decoder"] == "a") & (stitches["map"] == "own")]["nll"].item()
    np.testing.assert_allclose(rows[rows["map"].isin(["none", "rotation"])]["nll"], own, rtol=1e-4)


# --- parity with a pass at a time, whole batches, hooks and transformers' own loss ---


def by_hand(reader, tokenizer):
    """BLEU, chrF and nll of a model that reads what it is made to read."""
    held_out = sentences.held_out(SUITE)
    sources, targets = held_out["source"].tolist(), held_out["target"].tolist()
    scores = corpus_scores(translate(reader, tokenizer, sources, max_new_tokens=SUITE.own_tokens).texts, targets)
    batch = encode(reader, tokenizer, sources, targets)
    weights = batch.mask.sum(dim=1)
    nll = (negative_log_likelihood(reader, batch) * weights).sum() / weights.sum()
    return dict(zip(scores["metric"], scores["score"], strict=True)) | {"nll": float(nll)}


@pytest.fixture(scope="module")
def loaded(trained):
    return {name: existing.load_checkpoint(SUITE, name, 12, trained / "work") for name in ("a", "b")}


def states_of(model, tokenizer):
    """The encoder's states and the first decoder layer's input, of the training sentences, one at a time."""
    pairs = sentences.training_pairs(SUITE, SUITE.run("a"))
    pairs = pairs.sample(len(pairs), random_state=0)
    rows = []
    for source, target in zip(pairs["source"], pairs["target"], strict=True):
        batch = encode(model, tokenizer, [source], [target])
        with torch.no_grad():
            output = model.base_model(
                input_ids=batch.input_ids,
                attention_mask=batch.attention_mask,
                decoder_input_ids=batch.decoder_input_ids,
                output_hidden_states=True,
            )
        rows.append((output.encoder_last_hidden_state[0].numpy(), output.decoder_hidden_states[0][0].numpy()))
    return rows


@pytest.fixture(scope="module")
def states(loaded):
    return {name: states_of(*each) for name, each in loaded.items()}


def fits(states, place):
    """Maps from b to a by the first sentences, and the rows of the others."""
    fitted = len(states["a"]) * 4 // 5 // 32 * 32
    sides = [[np.concatenate([row[place] for row in states[name][part]]) for name in "ba"]
             for part in (slice(fitted), slice(fitted, None))]  # fmt: skip
    (x, y), there = sides
    made = {
        "none": maps.no_map(16),
        "random": maps.random_rotation(x, y, 0),
        "rotation": maps.fit_rotation(x, y),
        "affine": maps.fit_affine(x, y, tuple(there)),
    }
    return made, there


def test_ones_own_encoder_is_what_the_run_says_by_itself(stitches, loaded):
    own = stitches[(stitches["decoder"] == "a") & (stitches["map"] == "own")].iloc[0]
    for name, value in by_hand(*loaded["a"]).items():
        assert own[name] == pytest.approx(value, rel=1e-6)


def test_every_fitted_map_is_what_a_hook_at_the_encoder_gives(stitches, loaded, states):
    (a, tokenizer), (b, _) = loaded["a"], loaded["b"]
    made, there = fits(states, 0)
    rows = stitches[(stitches["decoder"] == "a") & (stitches["encoder"] == "b") & (stitches["place"] == "encoder")]
    rows = rows[rows["start"] == "run"].set_index("map")
    for kind, each in made.items():
        module = stitching.as_module(each, next(a.parameters())).requires_grad_(False)
        with reading(a, b, module):
            expected = by_hand(a, tokenizer)
        for name, value in expected.items():
            assert rows.loc[kind, name] == pytest.approx(value, rel=1e-5), (kind, name)
        assert rows.loc[kind, "explained"] == pytest.approx(maps.explained_variance(each, *there), abs=1e-5)
    assert rows.loc["affine", "penalty"] == pytest.approx(made["affine"].penalty)


def test_inside_the_decoder_bs_first_layer_goes_on_from_as_input(stitches, loaded, states):
    """In front of the first layer stand embeddings and positions alone: by hand without the job's states."""
    (a, tokenizer), (b, _) = loaded["a"], loaded["b"]
    made, there = fits(states, 1)
    rows = stitches[(stitches["decoder"] == "a") & (stitches["encoder"] == "b") & (stitches["place"] == "layer")]
    held_out = sentences.held_out(SUITE)
    batch = encode(a, tokenizer, held_out["source"].tolist(), held_out["target"].tolist())
    with torch.no_grad():
        read = b.base_model(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            decoder_input_ids=batch.decoder_input_ids,
            output_hidden_states=True,
        ).decoder_hidden_states[0]
    weights = batch.mask.sum(dim=1)
    for kind, each in made.items():
        with stitching.going_on(a, 0, stitching.as_module(each, read)(read).detach()):
            nll = (negative_log_likelihood(a, batch) * weights).sum() / weights.sum()
        assert rows.set_index("map").loc[kind, "nll"] == pytest.approx(float(nll), rel=1e-5)
        explained = rows.set_index("map").loc[kind, "explained"]
        assert explained == pytest.approx(maps.explained_variance(each, *there), abs=1e-5)


@pytest.fixture(scope="module")
def by_steps(trained, tmp_path_factory):
    """What "a" reads of "b" after a map was trained for 1 step and for 60, by map and start."""
    found, data = {}, tmp_path_factory.mktemp("steps")
    for steps in (1, 60):
        stitching_runs.stitch(SUITE, ["a", "b"], trained / "work", data / str(steps), steps=steps)
        rows = tables.read_suite(data / str(steps) / "tiny", "stitches")
        found[steps] = rows[(rows["place"] == "encoder") & (rows["decoder"] == "a")].set_index(["map", "start"])
    return found


def test_an_untrained_encoder_is_the_runs_start(by_steps, loaded, states):
    """One step of training leaves the map near the best affine one of the start's states."""
    tokenizer = loaded["a"][1]
    start = training.new_model(SUITE.recipe, tokenizer, SUITE.run("b").seeds.init).eval()
    fresh, there = fits({**states, "b": states_of(start, tokenizer)}, 0)
    explained = by_steps[1]["explained"]
    expected = maps.explained_variance(fresh["affine"], *there)
    apart = abs(explained["affine", "run"] - expected)
    assert apart > 0.01  # 12 steps of training have changed the encoder
    assert abs(explained["trained", "untrained"] - expected) < apart / 4
    assert abs(explained["trained", "run"] - explained["affine", "run"]) < apart / 4


def test_a_trained_map_lowers_the_loss_and_more_steps_lower_it_more(by_steps):
    nll = {steps: rows["nll"] for steps, rows in by_steps.items()}
    assert nll[60]["trained", "run"] < nll[1]["trained", "run"] < nll[1]["affine", "run"] + 1e-3
    assert nll[60]["trained", "untrained"] < nll[1]["trained", "untrained"]
    assert nll[60]["affine", "run"] == nll[1]["affine", "run"]


# --- what is there, what was cut off, what is of other runs ---


def test_what_is_there_stays(trained, stitches):
    file = trained / "data" / "tiny" / "stitches" / "a.parquet"
    before = file.stat().st_mtime_ns
    stitching_runs.stitch(SUITE, ["a", "b", "c"], trained / "work", trained / "data", steps=5)
    stitching_runs.stitch(SUITE, ["a", "b"], trained / "work", trained / "data", steps=5)  # fewer runs: all are there
    assert file.stat().st_mtime_ns == before
    assert not list((trained / "work").rglob("stitched-*"))


@pytest.mark.parametrize(
    ("given", "words"),
    [({"steps": 6}, "the steps, then 5, now 6"), ({"steps": 5, "seed": 1}, "the seed, then 0, now 1")],
)
def test_a_table_that_was_made_otherwise_is_not_taken_for_done(trained, stitches, given, words):
    with pytest.raises(DataError, match=f"was made otherwise: {words}.*--again"):
        stitching_runs.stitch(SUITE, ["a", "b", "c"], trained / "work", trained / "data", **given)


def test_a_table_without_an_encoder_that_is_asked_for_is_refused_before_any_work(trained, stitches, tmp_path):
    (tmp_path / "tiny" / "stitches").mkdir(parents=True)
    narrow = stitches[(stitches["decoder"] == "b") & (stitches["encoder"] != "c")]
    tables.write(narrow, tmp_path / "tiny" / "stitches" / "b.parquet", "stitches")
    with pytest.raises(DataError, match=r"b.parquet has the encoders \['a', 'b'\], and \['a', 'b', 'c'\].*--again"):
        stitching_runs.stitch(SUITE, ["a", "b", "c"], trained / "work", tmp_path, steps=5)
    assert not (tmp_path / "tiny" / "stitches" / "a.parquet").exists()
    stitching_runs.stitch(SUITE, ["a", "b", "c"], trained / "work", tmp_path, steps=5, again=True)
    assert set(tables.read_suite(tmp_path / "tiny", "stitches")["encoder"]) == {"a", "b", "c"}


class Killed(Exception):
    pass


def killed_after(monkeypatch, pairs):
    """Cut the job off when so many groups of pairs were kept, and count the groups that are begun."""
    begun, inside = [], stitching_runs._inside

    def counting(reader, run, *rest):
        begun.append((reader.name, run.name))
        if len(begun) > pairs:
            raise Killed
        return inside(reader, run, *rest)

    monkeypatch.setattr(stitching_runs, "_inside", counting)
    return begun


def test_what_was_cut_off_goes_on_with_the_pairs_that_are_left(trained, stitches, tmp_path, monkeypatch):
    monkeypatch.setattr(stitching_runs, "MAPS", 1)
    given = (SUITE, ["a", "b", "c"], trained / "work", tmp_path)
    with monkeypatch.context() as patched:
        killed_after(patched, 3)
        with pytest.raises(Killed):
            stitching_runs.stitch(*given, steps=5)
    assert [file.name for file in (tmp_path / "tiny" / "stitches").iterdir()] == ["a.parquet"]
    (kept,) = (trained / "work").rglob("stitched-*")
    assert kept.parent.name == "b"
    begun = killed_after(monkeypatch, 99)
    stitching_runs.stitch(*given, steps=5)
    assert begun == [("b", "c"), ("c", "a"), ("c", "b")]
    assert not list((trained / "work").rglob("stitched-*"))
    found = tables.read_suite(tmp_path / "tiny", "stitches")
    key = tables.key("stitches")
    pd.testing.assert_frame_equal(
        found.sort_values(key, ignore_index=True), stitches.sort_values(key, ignore_index=True), rtol=1e-4
    )


def test_pairs_that_were_kept_by_another_call_are_not_taken(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(stitching_runs, "MAPS", 1)
    with monkeypatch.context() as patched:
        killed_after(patched, 1)
        with pytest.raises(Killed):
            stitching_runs.stitch(SUITE, ["a", "b", "c"], trained / "work", tmp_path, steps=5)
    begun = killed_after(monkeypatch, 99)
    stitching_runs.stitch(SUITE, ["a", "b", "c"], trained / "work", tmp_path, steps=6)
    assert begun[:2] == [("a", "b"), ("a", "c")]
    for kept in (trained / "work").rglob("stitched-*"):
        kept.unlink()


def test_an_untrained_encoder_has_another_start_than_the_decoder(stitches):
    """The third run has the seeds of the first's start, and is not read by it."""
    untrained = stitches[stitches["start"] == "untrained"].set_index("decoder")["encoder"]
    assert untrained.to_dict() == {"a": "b", "b": "c", "c": "b"}
    assert stitching_runs._unrelated(SUITE, "a", ["a", "c"]) == "c"  # where all share it, the next


def test_bad_input(trained, tmp_path):
    with pytest.raises(InputError, match="two runs or more"):
        stitching_runs.stitch(SUITE, ["a"], trained / "work", tmp_path)
    with pytest.raises(DataError, match="train the run first"):
        stitching_runs.stitch(SUITE, ["a", "b"], tmp_path / "nothing", tmp_path)
    models = dataclasses.replace(
        SUITE,
        recipe=UNKNOWN,
        vocabulary=UNKNOWN,
        keep_states=(),
        models=tuple(ExistingModel(run.name, 12, str(tmp_path)) for run in SUITE.runs),
    )
    with pytest.raises(InputError, match="no training sentences"):
        stitching_runs.stitch(models, ["a", "b"], trained / "work", tmp_path)


def test_runs_that_cannot_be_stitched_are_named(trained, tmp_path, monkeypatch):
    load = existing.load_checkpoint

    def other(suite, name, step, work):
        model, tokenizer = load(suite, name, step, work)
        if name == "b":
            pieces = tokenizer.get_vocab()
            tokenizer.get_vocab = lambda: {**pieces, "new": len(pieces)}
        return model, tokenizer

    monkeypatch.setattr(existing, "load_checkpoint", other)
    with pytest.raises(InputError, match="'a' and 'b' have different vocabularies"):
        stitching_runs.stitch(SUITE, ["a", "b"], trained / "work", tmp_path)
    assert not tmp_path.joinpath("tiny").exists()


def test_runs_of_other_dimensions_are_named(trained, tmp_path, monkeypatch):
    load, new = existing.load_checkpoint, stitching_runs.training.new_model

    def other(suite, name, step, work):
        model, tokenizer = load(suite, name, step, work)
        recipe = dataclasses.replace(suite.recipe, dim=24)
        return (model if name == "a" else new(recipe, tokenizer, 0).eval()), tokenizer

    monkeypatch.setattr(existing, "load_checkpoint", other)
    with pytest.raises(InputError, match=r"\(16, 1\) and \(24, 1\) dimensions and layers"):
        stitching_runs.stitch(SUITE, ["a", "b"], trained / "work", tmp_path)
