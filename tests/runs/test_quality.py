"""Quality: sacreBLEU's own numbers, and a likelihood that is the model's own."""

from __future__ import annotations

import dataclasses

import pytest
import sacrebleu
import torch

import addends
from addends.errors import InputError
from addends.runs import quality
from tests.conftest import SOURCES, TARGETS

REFERENCES = ["the house is big", "the cat sleeps on the mat .", "we leave tomorrow morning with friends", "it rains"]
HYPOTHESES = ["the house is very big", "the cat sleeps .", "we go tomorrow", ""]


@pytest.fixture(scope="module")
def model(make_marian):
    return make_marian()


def test_corpus_scores_are_sacrebleus_own():
    scores = quality.corpus_scores(HYPOTHESES, REFERENCES).set_index("metric")["score"]
    assert scores.to_dict() == {
        "bleu": sacrebleu.corpus_bleu(HYPOTHESES, [REFERENCES]).score,
        "chrf": sacrebleu.corpus_chrf(HYPOTHESES, [REFERENCES]).score,
    }
    assert 0 < scores["bleu"] < scores["chrf"] < 100


def test_sentence_scores_are_sacrebleus_own():
    scores = quality.sentence_scores(HYPOTHESES, REFERENCES)
    pairs = list(zip(HYPOTHESES, REFERENCES, strict=True))
    assert scores["bleu"].tolist() == [sacrebleu.sentence_bleu(said, [reference]).score for said, reference in pairs]
    assert scores["chrf"].tolist() == [sacrebleu.sentence_chrf(said, [reference]).score for said, reference in pairs]
    assert scores.loc[3].tolist() == [0, 0]  # nothing said


def test_a_perfect_translation_scores_100_however_short():
    assert quality.corpus_scores(REFERENCES, REFERENCES)["score"].tolist() == pytest.approx([100, 100])
    assert quality.sentence_scores(REFERENCES, REFERENCES).to_numpy() == pytest.approx(100)


def test_the_better_translation_scores_higher():
    scores = quality.sentence_scores(["the house is big !", "a big home"], ["the house is big", "the house is big"])
    assert (scores.loc[0] > scores.loc[1]).all()


@pytest.mark.parametrize("index", range(len(SOURCES)))
def test_likelihood_is_the_models_own_loss_and_padding_does_not_count(model, tokenizer, index):
    together = quality.negative_log_likelihood(model, addends.encode(model, tokenizer, SOURCES, TARGETS))
    inputs = tokenizer([SOURCES[index]], text_target=[TARGETS[index]], return_tensors="pt")
    with torch.no_grad():
        loss = model(**inputs).loss  # the mean over the sentence's labels, its end symbol among them
    assert together.shape == (len(SOURCES),)
    torch.testing.assert_close(together[index], loss, rtol=1e-5, atol=0)


def test_an_indifferent_model_needs_the_logarithm_of_the_vocabulary(make_marian, tokenizer):
    model = make_marian()
    with torch.no_grad():
        model.model.shared.weight.zero_()
        model.final_logits_bias.zero_()
    batch = addends.encode(model, tokenizer, SOURCES, TARGETS)
    expected = torch.full((len(SOURCES),), len(tokenizer)).float().log()
    torch.testing.assert_close(quality.negative_log_likelihood(model, batch), expected)


def test_likelihood_builds_no_graph_and_leaves_the_mode_as_it_was(model, tokenizer):
    assert torch.is_grad_enabled()
    nll = quality.negative_log_likelihood(model, addends.encode(model, tokenizer, SOURCES, TARGETS))
    assert not nll.requires_grad
    assert torch.is_grad_enabled()


def test_a_batch_without_labels_is_refused(model, tokenizer):
    batch = dataclasses.replace(addends.encode(model, tokenizer, SOURCES, TARGETS), labels=None)
    with pytest.raises(InputError, match=r"no labels.*encode"):
        quality.negative_log_likelihood(model, batch)


@pytest.mark.parametrize("score", [quality.corpus_scores, quality.sentence_scores])
@pytest.mark.parametrize(
    ("hypotheses", "references", "message"),
    [
        (["a", "b"], ["a"], "2 hypotheses and 1 references"),
        ([], [], "hypotheses is empty"),
        ("ab", ["a", "b"], "hypotheses is one string"),
        (["a", "b"], "ab", "references is one string"),
    ],
)
def test_lists_that_do_not_match_are_refused(score, hypotheses, references, message):
    with pytest.raises(InputError, match=message):
        score(hypotheses, references)
