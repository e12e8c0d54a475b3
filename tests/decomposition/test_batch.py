"""A batch fits together, and says which of its rows count."""

from __future__ import annotations

import pytest
import torch

import addends
from addends.errors import InputError


def test_the_rows_that_count():
    ids, mask = torch.ones(2, 3).long(), torch.tensor([[1, 1, 1], [1, 1, 0]])
    decoder_ids, decoder_mask = torch.ones(2, 4).long(), torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]])
    assert torch.equal(addends.Batch(ids, mask).mask, mask.bool())
    assert addends.Batch(ids, mask, decoder_ids).mask.shape == (2, 4)
    assert addends.Batch(ids, mask, decoder_ids).mask.all()
    assert torch.equal(addends.Batch(ids, mask, decoder_ids, decoder_mask).mask, decoder_mask.bool())
    assert torch.equal(addends.Batch(ids, mask, decoder_mask=1 - mask).mask, ~mask.bool())
    assert len(addends.Batch(ids, mask)) == 2


def test_all_tensors_move_and_nothing_else_changes():
    ids = torch.ones(2, 3).long()
    batch = addends.Batch(ids, ids, ids, ids.bool(), texts=("a", "b"), truncated=(("sources", 1),)).to("meta")
    assert {batch.input_ids.device.type, batch.decoder_input_ids.device.type, batch.mask.device.type} == {"meta"}
    assert (batch.texts, batch.truncated, batch.labels) == (("a", "b"), (("sources", 1),), None)


def test_one_sentence_keeps_its_padding_or_loses_it_on_the_side_of_the_attention_mask():
    ids, mask = torch.arange(6).reshape(2, 3), torch.tensor([[1, 1, 1], [0, 1, 1]])
    written = torch.arange(8).reshape(2, 4)
    batch = addends.Batch(ids, mask, written, written > 5, texts=("a", "b"))
    padded, bare = batch.sentence(1), batch.sentence(1, padded=False)
    assert (padded.input_ids.tolist(), padded.attention_mask.tolist()) == ([[3, 4, 5]], [[0, 1, 1]])
    assert (bare.input_ids.tolist(), bare.attention_mask.tolist()) == ([[4, 5]], [[1, 1]])
    for each in (padded, bare):
        assert each.decoder_input_ids.tolist() == [[4, 5, 6, 7]]
        assert each.mask.tolist() == [[False, False, True, True]]
        assert each.texts == ("b",)
    single = addends.Batch(ids, mask, labels=ids, decoder_mask=mask).sentence(1, padded=False)
    assert (single.labels.tolist(), single.mask.tolist()) == ([[4, 5]], [[True, True]])
    with pytest.raises(InputError, match="sentence=2: the batch has sentences 0 to 1"):
        batch.sentence(2)


# --- bad input ---


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attention_mask": torch.ones(2, 4)}, "attention_mask"),
        ({"decoder_input_ids": torch.ones(3, 2).long()}, r"decoder_input_ids of shape \(3, 2\) for 2"),
        ({"decoder_mask": torch.ones(2, 5).bool()}, r"decoder_mask of shape \(2, 5\) for decoder_input_ids"),
        ({"labels": torch.ones(2, 3).long()}, r"labels of shape \(2, 3\) for decoder_input_ids"),
        ({"position_ids": torch.ones(2, 4).long()}, r"position_ids of shape \(2, 4\) for input_ids"),
        (
            {"decoder_input_ids": None, "decoder_mask": torch.ones(2, 4)},
            r"decoder_mask of shape \(2, 4\) for input_ids",
        ),
        ({"decoder_input_ids": None, "position_ids": torch.ones(3)}, r"position_ids of shape \(3,\)"),
        ({"decoder_input_ids": None, "labels": torch.ones(1, 3)}, r"labels of shape \(1, 3\) for input_ids"),
    ],
)
def test_shapes_that_do_not_fit(change, message):
    fitting = {
        "input_ids": torch.ones(2, 3).long(),
        "attention_mask": torch.ones(2, 3),
        "decoder_input_ids": torch.ones(2, 4).long(),
    }
    with pytest.raises(InputError, match=message):
        addends.Batch(**{**fitting, **change})
