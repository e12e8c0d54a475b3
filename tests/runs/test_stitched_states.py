"""States that pairs share: those of one sentence at a time, the same tokens in two runs, too few sentences."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from addends.decomposition import encode
from addends.errors import InputError
from addends.runs import existing, sentences, stitched_states
from tests.runs import tiny_suite
from tests.runs.tiny_suite import SUITE


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("states")
    tiny_suite.train(folder / "work", folder / "data")
    return folder / "work"


@pytest.fixture(scope="module")
def texts(work):
    return stitched_states.texts_of(SUITE, ["a", "b"], work, seed=0)


@pytest.fixture(scope="module")
def runs(work, texts):
    return {
        name: stitched_states.read(name, *existing.load_checkpoint(SUITE, name, 12, work), texts) for name in ("a", "b")
    }


def test_sentences_to_fit_on_are_whole_batches_and_none_is_lost(texts):
    drawn = sum(len(piece) for piece in texts.pieces)
    assert drawn == len(sentences.training_pairs(SUITE, SUITE.run("a")))
    assert [sum(map(len, pieces)) for pieces in texts.training[: texts.fitted]] == [32] * texts.fitted
    assert sum(map(len, texts.held_out)) == len(sentences.held_out(SUITE))


def test_spaces_hold_each_real_token_as_its_sentence_alone_gives_it(runs, texts):
    reader, run = runs["a"], runs["b"]
    for space, place in (
        (stitched_states.encoder_space(run.encoder, reader.encoder, texts), 0),
        (stitched_states.decoder_space(run, reader, 0, texts), 1),
    ):
        for found, of in ((space.read, run), (space.written, reader)):
            np.testing.assert_allclose(found, alone(of, texts.training[: texts.fitted], place), atol=1e-5)
        for found, of in ((space.read_there, run), (space.written_there, reader)):
            np.testing.assert_allclose(found, alone(of, texts.training[texts.fitted :], place), atol=1e-5)


def alone(run, batches, place):
    """The encoder's states (0) or the first decoder layer's input (1), of one sentence at a time."""
    pairs = sentences.training_pairs(SUITE, SUITE.run("a")).set_index("target")["source"]
    rows = []
    for target in (text for pieces in batches for piece in pieces for text in piece.texts):
        batch = encode(run.model, run.tokenizer, [pairs[target]], [target])
        with torch.no_grad():
            output = run.model.base_model(
                input_ids=batch.input_ids,
                attention_mask=batch.attention_mask,
                decoder_input_ids=batch.decoder_input_ids,
                output_hidden_states=True,
            )
        rows.append((output.encoder_last_hidden_state, output.decoder_hidden_states[0])[place][0])
    return torch.cat(rows).numpy()


def test_an_untrained_encoder_is_drawn_by_the_runs_seed_and_leaves_the_generator_alone(runs, texts):
    before = torch.get_rng_state()
    one, again, other = (stitched_states.untrained(SUITE, runs[name], texts) for name in ("a", "a", "b"))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(x, y) for x, y in zip(one.held_out, again.held_out, strict=True))
    assert not torch.allclose(one.held_out[0], other.held_out[0], atol=0.1)
    assert not torch.allclose(one.held_out[0], runs["a"].encoder.held_out[0], atol=0.01)


def test_training_sentences_that_leave_none_to_choose_by_are_refused(work, monkeypatch):
    monkeypatch.setattr(stitched_states, "TRAINING_BATCH", 200)
    with pytest.raises(InputError, match="none is left to choose by"):
        stitched_states.texts_of(SUITE, ["a", "b"], work, seed=0)
