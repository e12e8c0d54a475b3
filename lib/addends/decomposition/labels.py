"""What to call a state, and the token that a part came from, in a figure of any kind of model.

A state stands for different things: an encoder-decoder's row t predicts token t of the target; an encoder's stands on
the token that it read; a decoder-only model's has read its token last, and predicts the next one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from addends.decomposition.architectures import architecture_of
from addends.decomposition.batch import Batch

ROWS = {
    "encoder-decoder": "the token this state predicts",
    "encoder": "the token this state stands on",
    "decoder": "the token this state has read last",
}
COLUMNS = {"encoder-decoder": "source token", "encoder": "token read", "decoder": "token read"}


@dataclass(frozen=True)
class Labels:
    """The labels of one sentence's real tokens.

    Attributes
    ----------
    states : tuple of str
        One a state: what the decoder is to write, or what a single stack reads.
    inputs : tuple of str
        One a token that the model reads from outside: the source's, or a single stack's own.
    row, column : str
        What a state's label and an input's label say, as the label of an axis.

    Examples
    --------
    >>> names = labels(model, tokenizer, batch)
    >>> names.inputs, names.states, names.row
    (('Il', 'pleut', '.', '</s>'), ('It', 'is', 'raining', '.', '</s>'), 'the token this state predicts')
    """

    states: tuple[str, ...]
    inputs: tuple[str, ...]
    row: str
    column: str


def labels(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch: Batch, sentence: int = 0) -> Labels:
    """The labels of a sentence of a batch; padding has none, nor have states that the batch's mask leaves out.

    Raises
    ------
    InputError
        If the batch has no such sentence.
    """
    batch.check_sentence(sentence)
    kind = architecture_of(model.config).kind
    inputs = batch.input_ids[sentence][batch.attention_mask[sentence].bool()]
    written = batch.decoder_input_ids if batch.labels is None else batch.labels
    states = (batch.input_ids if written is None else written)[sentence][batch.mask[sentence]]
    return Labels(words(tokenizer, states), words(tokenizer, inputs), ROWS[kind], COLUMNS[kind])


def words(tokenizer: PreTrainedTokenizerBase, ids: torch.Tensor) -> tuple[str, ...]:
    """Tokens as a reader can read them: without the mark of a word's beginning, bytes as the letters they spell.

    A token that is a blank alone is "▁"; of one that ends inside a character, that character is "\ufffd".
    """
    special = set(tokenizer.all_special_tokens)
    tokens = [str(token) for token in tokenizer.convert_ids_to_tokens(ids.tolist())]
    return tuple(token if token in special else _readable(tokenizer, token) for token in tokens)


def _readable(tokenizer: PreTrainedTokenizerBase, token: str) -> str:
    text = token.replace("▁", "")  # SentencePiece's mark
    if not text.isascii():  # GPT-2's kind spells each byte, the blank too, in a letter of its own
        text = tokenizer.convert_tokens_to_string([text])
    return text.strip() or "▁"
