"""Batches: sentence pairs as tensors, with a mask that says which rows of the decoder count.

Row t of the decoder is the state that predicts label t: the decoder reads the labels shifted right behind its start
symbol. A row counts exactly if its label is real. (Not ``ids != pad``: Marian's start symbol is its pad symbol.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch

from addends.decomposition.architectures import architecture_of
from addends.decomposition.loading import check_vocabulary
from addends.errors import InputError


@dataclass(frozen=True)
class Batch:
    """Token ids of a batch of sentences, all tensors of shape (sentence, position).

    Attributes
    ----------
    input_ids, attention_mask : Tensor
        The source side; the mask is 1 where a token stands.
    decoder_input_ids : Tensor, optional
        What the decoder reads.
    decoder_mask : Tensor of bool, optional
        True where row t has a real label. None means that every row has.
    position_ids : Tensor, optional
        For models that take them.
    labels : Tensor, optional
        The id that row t is to predict; meaningful where ``decoder_mask`` is True.
    texts : tuple of str, optional
        The target side as text: the references given, or the translations made.
    truncated : tuple of (side, index)
        The sentences that were cut to the model's positions, when that was asked for.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    decoder_input_ids: torch.Tensor | None = None
    decoder_mask: torch.Tensor | None = None
    position_ids: torch.Tensor | None = None
    labels: torch.Tensor | None = None
    texts: tuple[str, ...] | None = None
    truncated: tuple[tuple[str, int], ...] = ()

    def __post_init__(self) -> None:
        shape = self.input_ids.shape
        if self.input_ids.ndim != 2 or self.attention_mask.shape != shape:
            raise InputError(
                f"input_ids of shape {tuple(shape)} and attention_mask of shape {tuple(self.attention_mask.shape)}: "
                "both are to be (sentence, position)."
            )
        if self.decoder_input_ids is None:
            return
        if self.decoder_input_ids.ndim != 2 or len(self.decoder_input_ids) != len(self.input_ids):
            raise InputError(
                f"decoder_input_ids of shape {tuple(self.decoder_input_ids.shape)} for {len(self.input_ids)} "
                "source sentences: (sentence, position) with as many sentences is wanted."
            )
        for name in ("decoder_mask", "labels"):
            tensor = getattr(self, name)
            if tensor is not None and tensor.shape != self.decoder_input_ids.shape:
                raise InputError(
                    f"{name} of shape {tuple(tensor.shape)} for decoder_input_ids of shape "
                    f"{tuple(self.decoder_input_ids.shape)}: the same shape is wanted."
                )

    def __len__(self) -> int:
        return len(self.input_ids)

    @property
    def mask(self) -> torch.Tensor:
        """True where a row counts, of shape (sentence, position)."""
        if self.decoder_mask is not None:
            return self.decoder_mask.bool()
        if self.decoder_input_ids is not None:
            return torch.ones_like(self.decoder_input_ids, dtype=torch.bool)
        return self.attention_mask.bool()

    def to(self, device) -> Batch:
        """The same batch with its tensors on ``device``."""
        moved = {
            field.name: getattr(self, field.name).to(device)
            for field in fields(self)
            if isinstance(getattr(self, field.name), torch.Tensor)
        }
        return replace(self, **moved)


def encode(
    model,
    tokenizer,
    sources: Sequence[str],
    targets: Sequence[str],
    *,
    truncation: bool = False,
    legacy: bool = False,
) -> Batch:
    """Tokenize source and target sentences into a `Batch` on the model's device.

    The target is tokenized as a target (``text_target``), with its end symbol, and shifted right behind the decoder's
    start symbol: row t predicts token t of the target.

    Parameters
    ----------
    sources, targets : sequences of str
        As many of each, none of them empty.
    truncation : bool
        Cut sentences that are longer than the model's positions; the batch's ``truncated`` lists them. By default
        they are refused.
    legacy : bool
        Feed the decoder as the code released with Mickus & Vázquez (2023) does: the target is tokenized by the
        *source* side's tokenizer and not shifted, so that row t is the state after reading token t at position t - 1
        (counting tokens from 1), the row fed with the end symbol counts too, and rows whose id is the pad's do not.
        For reproducing published numbers only.

    Raises
    ------
    InputError
        If the lists differ in length, one is empty, or a sentence is blank or longer than the model's positions; the
        message gives the side and the index.
    """
    sources, targets = _texts("sources", sources), _texts("targets", targets)
    if len(sources) != len(targets):
        raise InputError(_unequal(sources, targets))
    check_vocabulary(model, tokenizer)
    source_ids = tokenizer(sources)["input_ids"]
    target_ids = tokenizer(targets)["input_ids"] if legacy else tokenizer(text_target=targets)["input_ids"]
    source_ids, cut_sources = _fit(model, source_ids, "sources", truncation)
    target_ids, cut_targets = _fit(model, target_ids, "targets", truncation)
    pad = model.config.pad_token_id
    input_ids, attention_mask = _pad(source_ids, pad)
    labels, label_mask = _pad(target_ids, pad)
    if legacy:
        decoder_input_ids, decoder_mask = labels, labels != pad
    else:
        decoder_input_ids, decoder_mask = _shift_right(labels, model.config.decoder_start_token_id), label_mask
    return Batch(
        input_ids=input_ids,
        attention_mask=attention_mask.long(),
        decoder_input_ids=decoder_input_ids,
        decoder_mask=decoder_mask,
        labels=None if legacy else labels,
        texts=tuple(targets),
        truncated=cut_sources + cut_targets,
    ).to(model.device)


def translate(model, tokenizer, sources: Sequence[str], *, truncation: bool = False, **generate_kwargs) -> Batch:
    """Translate the sources and return the `Batch` whose targets are the ids generated.

    The ids are taken as the model made them, never decoded and tokenized again; ``.texts`` holds the translations.
    Greedy search (``num_beams=1, do_sample=False``) unless ``generate_kwargs`` say otherwise. A translation that
    reaches ``max_new_tokens`` (default: what the model's positions allow) without an end symbol ends there.

    Raises
    ------
    InputError
        If ``sources`` is empty, or a sentence is blank or longer than the model's positions.
    """
    sources = _texts("sources", sources)
    check_vocabulary(model, tokenizer)
    source_ids, truncated = _fit(model, tokenizer(sources)["input_ids"], "sources", truncation)
    input_ids, attention_mask = _pad(source_ids, model.config.pad_token_id)
    options = {"num_beams": 1, "do_sample": False, "max_new_tokens": positions(model) - 1, **generate_kwargs}
    with torch.no_grad():
        generated = model.generate(
            input_ids=input_ids.to(model.device), attention_mask=attention_mask.long().to(model.device), **options
        )
    labels = generated[:, 1:]  # (sentence, 1 + position) -> (sentence, position): without the start symbol
    ends = (labels == model.config.eos_token_id).long()
    decoder_mask = ends.cumsum(dim=1) - ends == 0  # up to and with the first end symbol
    return Batch(
        input_ids=input_ids,
        attention_mask=attention_mask.long(),
        decoder_input_ids=generated[:, :-1],
        decoder_mask=decoder_mask,
        labels=labels,
        texts=tuple(tokenizer.batch_decode(generated, skip_special_tokens=True)),
        truncated=truncated,
    ).to(model.device)


def check_sentences(model, tokenizer, sources: Sequence[str], targets: Sequence[str] | None = None) -> None:
    """Raise InputError where `encode` (without ``targets``: `translate`) would, without running the model.

    For whoever sorts sentences and encodes them batch by batch: the index in the message is that in the whole list.
    """
    sources = _texts("sources", sources)
    check_vocabulary(model, tokenizer)
    _fit(model, tokenizer(sources)["input_ids"], "sources", truncation=False)
    if targets is not None:
        targets = _texts("targets", targets)
        if len(sources) != len(targets):
            raise InputError(_unequal(sources, targets))
        _fit(model, tokenizer(text_target=targets)["input_ids"], "targets", truncation=False)


def positions(model) -> int:
    """The largest number of tokens that the model has positions for."""
    return getattr(model.config, architecture_of(model.config).positions)


def _unequal(sources: Sequence[str], targets: Sequence[str]) -> str:
    return f"{len(sources)} sources and {len(targets)} targets: give one target a source, in the same order."


def _texts(name: str, texts: Sequence[str]) -> list[str]:
    if isinstance(texts, str):
        raise InputError(f"{name} is one string. Give a list of sentences, [{texts[:30]!r}] for a single one.")
    texts = list(texts)
    if not texts:
        raise InputError(f"{name} is empty. Give at least one sentence.")
    for index, text in enumerate(texts):
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"{name}[{index}] is {text!r}. Every sentence is to be a string that is not blank.")
    return texts


def _fit(
    model, ids: list[list[int]], name: str, truncation: bool
) -> tuple[list[list[int]], tuple[tuple[str, int], ...]]:
    limit = positions(model)
    long = [index for index, row in enumerate(ids) if len(row) > limit]
    if long and not truncation:
        raise InputError(
            f"{name}[{long[0]}] has {len(ids[long[0]])} tokens, the model has {limit} positions. Leave it out, split "
            "it, or pass truncation=True to cut it (the batch then lists it in .truncated)."
        )
    # The last token, the end symbol, is kept.
    cut = [row if len(row) <= limit else [*row[: limit - 1], row[-1]] for row in ids]
    return cut, tuple((name, index) for index in long)


def _pad(ids: list[list[int]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    rows = [torch.tensor(row) for row in ids]
    padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=pad)  # (sentence, position)
    lengths = torch.tensor([len(row) for row in ids])
    return padded, torch.arange(padded.shape[1])[None] < lengths[:, None]


def _shift_right(labels: torch.Tensor, start: int) -> torch.Tensor:
    return torch.cat([labels.new_full((len(labels), 1), start), labels[:, :-1]], dim=1)
