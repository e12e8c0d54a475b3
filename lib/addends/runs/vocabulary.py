"""One SentencePiece vocabulary for all conditions of a suite, saved as a standard Marian tokenizer folder.

Source and target sides share it, as they share their embedding. Bytes are a fallback, so no character is unknown:
the Chinese side alone has more distinct characters than a small vocabulary has room for.

References
----------
Kudo & Richardson (2018), SentencePiece, EMNLP. Junczys-Dowmunt et al. (2018), Marian, ACL (demonstrations).
"""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from filelock import FileLock

from addends.errors import InputError

if TYPE_CHECKING:
    from transformers import MarianTokenizer

_OF = "trained_from.json"  # in the folder, beside what transformers reads
END, UNKNOWN, PAD = "</s>", "<unk>", "<pad>"


def train(
    sentences: Iterable[str],
    folder: str | os.PathLike,
    pieces: int,
    coverage: float = 0.995,
    byte_fallback: bool = True,
    of: Mapping[str, object] | None = None,
) -> MarianTokenizer:
    """Train a unigram vocabulary of ``pieces`` entries and save it under ``folder``; return the tokenizer.

    A folder that already holds one of that size, of the same sentences, is loaded, not trained again: delete it to
    train anew.

    Parameters
    ----------
    sentences : iterable of str
        Every side that takes part. Duplicates are used once.
    pieces : int
        Entries of the vocabulary, special symbols, bytes and ``<pad>`` included.
    coverage : float
        The share of characters that get a piece of their own; the rest is spelled in bytes.
    of : mapping or None
        What says of which sentences, and how, it is trained; it is written beside the vocabulary, and compared where
        one is loaded. None, or a vocabulary without it, is compared with nothing.

    Raises
    ------
    InputError
        If SentencePiece cannot make that many pieces of these sentences, or if ``folder`` holds a vocabulary of
        another size, one of other sentences, or something else.
    """
    folder = Path(folder)
    if (folder / "tokenizer_config.json").exists():
        return _trained((), folder, pieces, coverage, byte_fallback, of)
    unique = dict.fromkeys(sentences)  # read before anything is written
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.claim")):  # of several processes one trains, the others load
        return _trained(unique, folder, pieces, coverage, byte_fallback, of)


def _trained(
    sentences: Iterable[str],
    folder: Path,
    pieces: int,
    coverage: float,
    byte_fallback: bool,
    of: Mapping[str, object] | None,
) -> MarianTokenizer:
    import sentencepiece
    from transformers import MarianTokenizer

    if (folder / "tokenizer_config.json").exists():
        tokenizer = MarianTokenizer.from_pretrained(folder)
        if len(tokenizer) != pieces:
            raise InputError(
                f"{folder} holds a vocabulary of {len(tokenizer)} pieces, not of pieces={pieces}. Delete the folder to "
                "train anew (and the runs that used it), or name another."
            )
        _refuse_other(folder, of)
        return tokenizer
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is no vocabulary, and not empty either. Name another folder, or clear this one.")
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(sentences),
            model_writer=model,  # a file's name would be written into the model: equal vocabularies have equal bytes
            vocab_size=pieces - 1,  # <pad> is Marian's own, the last id
            character_coverage=coverage,
            byte_fallback=byte_fallback,
            model_type="unigram",
            num_threads=1,  # several threads add floats in varying order
            minloglevel=2,
            bos_id=-1,
            eos_id=0,
            unk_id=1,
        )
    except (RuntimeError, OSError) as error:
        shutil.rmtree(part, ignore_errors=True)
        raise InputError(
            f"pieces={pieces}: SentencePiece made no vocabulary of that size of these sentences: {error}"
        ) from error
    pieces_of = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    ids = {pieces_of.id_to_piece(index): index for index in range(pieces_of.get_piece_size())}
    ids[PAD] = len(ids)
    (part / "source.spm").write_bytes(model.getvalue())
    (part / "vocab.json").write_text(json.dumps(ids, ensure_ascii=False, indent=0), encoding="utf-8")
    shutil.copy(part / "source.spm", part / "target.spm")
    tokenizer = MarianTokenizer(
        source_spm=str(part / "source.spm"),
        target_spm=str(part / "target.spm"),
        vocab=str(part / "vocab.json"),
        unk_token=UNKNOWN,
        eos_token=END,
        pad_token=PAD,
    )
    tokenizer.save_pretrained(part)
    if of is not None:
        (part / _OF).write_text(json.dumps(of, indent=1) + "\n")
    part.rename(folder)
    return MarianTokenizer.from_pretrained(folder)


def _refuse_other(folder: Path, of: Mapping[str, object] | None) -> None:
    if of is None or not (folder / _OF).exists():
        return
    try:
        found = dict(json.loads((folder / _OF).read_text()))
    except (TypeError, ValueError) as error:
        raise InputError(f"{folder / _OF} is no record ({error}). Restore it, or delete {folder}.") from error
    wanted = json.loads(json.dumps(of))
    other = sorted(name for name in {*found, *wanted} if found.get(name) != wanted.get(name))
    if other:
        was, now = ({name: record.get(name) for name in other} for record in (found, wanted))
        raise InputError(
            f"{folder} holds a vocabulary that was trained with other {', '.join(other)} ({was}; now {now}). Delete "
            "the folder to train anew (and the runs that used it), or give the suite another name."
        )


def encode_all(tokenizer: MarianTokenizer, sentences: Sequence[str]) -> list[np.ndarray]:
    """Ids of every sentence, end symbol included: what ``tokenizer(sentences)`` gives, some twenty times faster.

    For tokenizers made by `train`, whose ids are SentencePiece's own.
    """
    sentences = list(sentences)
    ids = tokenizer.spm_source.encode(sentences, out_type=int)
    end = tokenizer.eos_token_id
    encoded = [np.array([*sentence, end], dtype=np.int32) for sentence in ids]
    # Text that looks like a special symbol, or like the language code that Marian strips, is the tokenizer's to judge.
    special = tuple(tokenizer.all_special_tokens)
    for index, sentence in enumerate(sentences):
        if sentence.startswith(">>") or any(symbol in sentence for symbol in special):
            encoded[index] = np.array(tokenizer(sentence)["input_ids"], dtype=np.int32)
    return encoded
