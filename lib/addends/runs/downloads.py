"""Sentence pairs from a versioned release of Tatoeba, as the files that the European suite names.

The release is the OPUS collection's, in "moses" format: two parallel files in one archive a language pair. Its licence
is CC BY 2.0 FR. The book's own runs were trained on pairs of Tatoeba in another packaging, so runs on these pairs are
other runs: their records say so by the digest of the pairs.

References
----------
Tiedemann (2012), Parallel data, tools and interfaces in OPUS, LREC.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from addends.checks import check_choice, optional_module
from addends.errors import DataError
from addends.runs import corpora

RELEASE = "v2023-04-12"
BASE_URL = f"https://object.pouta.csc.fi/OPUS-Tatoeba/{RELEASE}/moses/"
LANGUAGES = {"fra": "en-fr", "deu": "de-en", "pol": "en-pl", "bul": "bg-en", "cmn": "cmn-en"}
"""The release's name of each language's pairs with English."""

TESTED = "fra"
TEST_PAIRS = 10_000
TEST_SEED = 2023
CHECKSUMS = "checksums.txt"


def tatoeba(languages: Sequence[str], folder: Path) -> list[Path]:
    """Download pairs with English, and write ``corpora/train/<language>-eng.tsv``; gives the files.

    Of French, 10,000 pairs drawn by a fixed seed go to ``corpora/test/fra-eng.tsv`` in place of training. SHA-256 of
    every archive is kept in ``corpora/checksums.txt`` and checked wherever it stands there already.

    Raises
    ------
    InputError
        If a language is none of `LANGUAGES`.
    DataError
        If an archive cannot be downloaded, is not the one that the checksum names, or holds no such pairs.
    ImportError
        If pooch is not installed, which downloads and checks.
    """
    pooch = optional_module("pooch", "replication", "Downloading")
    for language in languages:
        check_choice("language", language, sorted(LANGUAGES))
    known, written = _checksums(folder), []
    for language in dict.fromkeys(languages):
        pair = LANGUAGES[language]
        name = f"{pair}.txt.zip"
        with TemporaryDirectory() as temporary:
            try:
                archive = Path(
                    pooch.retrieve(f"{BASE_URL}{name}", known.get(name), fname=name, path=temporary, progressbar=True)
                )
            except (OSError, ValueError) as error:  # requests' errors are OSErrors; a wrong checksum is a ValueError
                raise DataError(
                    f"{BASE_URL}{name} could not be had ({error}). Check the network and call again; files that are "
                    "written stay."
                ) from error
            known[name] = pooch.file_hash(str(archive), alg="sha256")
            pairs = _pairs(archive, pair, language, Path(temporary))
        if language == TESTED:
            test = pairs.sample(min(TEST_PAIRS, len(pairs) // 2), random_state=TEST_SEED)
            pairs = pairs.drop(test.index)
            written.append(_write(test.sort_index(), folder / "corpora" / "test" / f"{language}-eng.tsv"))
        written.append(_write(pairs, folder / "corpora" / "train" / f"{language}-eng.tsv"))
        lines = "".join(f"{digest}  {archive_name}\n" for archive_name, digest in sorted(known.items()))
        (folder / "corpora" / CHECKSUMS).write_text(lines)
    return written


def _pairs(archive: Path, pair: str, language: str, temporary: Path) -> pd.DataFrame:
    """The pairs of an archive, English second. A tab parts the sides in what is written: sentences with one are out."""
    english_first = pair.startswith("en-")
    sides = [f"Tatoeba.{pair}.{side}" for side in pair.split("-")]
    try:
        with zipfile.ZipFile(archive) as opened:
            first, second = (Path(opened.extract(name, temporary)) for name in sides)
    except (KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{archive.name} is no archive of the files {sides} ({error}).") from error
    source, target = (second, first) if english_first else (first, second)
    pairs = corpora.read_moses(source, target, language)
    return pairs[~(pairs["source"].str.contains("\t") | pairs["target"].str.contains("\t"))]


def _write(pairs: pd.DataFrame, file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.part")
    lines = (f"{row.source}\t{row.target}\n" for row in pairs.itertuples())
    part.write_text("".join(lines), encoding="utf-8")
    part.replace(file)
    return file


def _checksums(folder: Path) -> dict[str, str]:
    file = folder / "corpora" / CHECKSUMS
    if not file.exists():
        return {}
    rows = [line.split(maxsplit=1) for line in file.read_text().splitlines()]
    return {name: f"{digest}" for digest, name in rows}
