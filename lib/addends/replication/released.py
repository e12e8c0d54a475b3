"""The released files of Mickus and Vázquez (2023), and the one name that this project has for each released name.

Six Marian models translate into English, each measured at every 1,000th training step: three runs on Russian that
differ in their seed (``rus-eng-s0``, ``-s1``, ``-s2``), and one run each on Slavic (``sla-eng``), Indo-European
(``ine-eng``) and many (``mul-eng``) source languages. The files spell the names of runs in several ways; here each run
has one. Names are mapped as follows:

=====================  ====================  ============================================================
released               here                  meaning
=====================  ====================  ============================================================
spim                   importance            <x,e> / |e|^2
cosine                 cosine                <x,e> / (|x| |e|)
norm_ratio             norm_ratio            |x| / |e|
l2                     distance              |x - e|
decomps, mickus-etal   by "sublayer"         terms I, S, T, F, C
oh-schuler             by "token"            terms S, T, C
gen, no-gen            target "own",         the model's own translation, or the reference, is decomposed
                       target "reference"
L1norm                 term "L1"             the sum over terms of absolute differences
rus_allseeds           run "rus-eng"         the three Russian runs together
=====================  ====================  ============================================================

The released code tokenizes the target as if it were source text and feeds it without shifting it:
``addends.encode(..., legacy=True)`` does the same, the default does not.

The files lie in the repository of the paper's code and state no licence, so they are not shipped. They are read from
``$ADDENDS_DATA/published``, or else downloaded once into a cache. What is pinned is each file: its size and its SHA-256
stand in ``checksums.txt`` beside this module, so both ways give the same bytes or an error. The commit says where these
files were found, by the short id that was noted with the figures; it is an address, not a guarantee.

References
----------
Mickus and Vázquez (2023), Why Bother with Geometry? On the Relevance of Linear Decompositions of Transformer
Embeddings, BlackboxNLP, https://aclanthology.org/2023.blackboxnlp-1.10
"""

from __future__ import annotations

import difflib
import os
from importlib.resources import files as package_files
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from addends.checks import optional_module
from addends.errors import DataError, InputError

REPOSITORY = "https://github.com/TimotheeMickus/seq2seq-splat"
COMMIT = "8d2b1cd"
# Where each file is looked for, in order: at that commit, and, as a last resort, in the repository as it is now, since
# servers resolve short ids only sometimes. The second can be a later state. That does no harm: wherever a file comes
# from, it is kept only if its SHA-256 is the pinned one, and a file that has changed since is refused like any other.
BASE_URLS = tuple(
    f"https://raw.githubusercontent.com/TimotheeMickus/seq2seq-splat/{revision}/" for revision in (COMMIT, "HEAD")
)
RETRIES = 1  # of each place, a second apart
EXTRA = "replication"

# Every run, with the other spellings of its name. 1989 and 20232 stand in the sentence-level files and look like
# seeds, but nothing released says which generators they seed: the seeds of the runs table stay missing.
RUNS = {
    "rus-eng-s0": ("rus-eng_s0", "rus-eng", "s0-eng", "s0", "rus _s0"),
    "rus-eng-s1": ("rus-eng_s1", "rus-eng_s1989", "s1-eng", "s1", "rus _s1"),
    "rus-eng-s2": ("rus-eng_s2", "rus-eng_s20232", "s2-eng", "s2", "rus _s2"),
    "sla-eng": ("sla",),
    "ine-eng": ("ine",),
    "mul-eng": ("mul",),
}
POOLED = "rus-eng"
"""The three Russian runs together, in the released correlations only."""

ALL_TERMS = "L1"
"""The sum over terms of absolute differences, in the released correlations only."""

INDICATOR_NAMES = {"spim": "importance", "cosine": "cosine", "norm_ratio": "norm_ratio", "l2": "distance"}
METHOD_NAMES = {"mickus-etal": "sublayer", "oh-schuler": "token"}
TERMS = {"sublayer": ("I", "S", "T", "F", "C"), "token": ("S", "T", "C")}
LAYERS = (0, 1, 2, 3, 4, 5, 6)
SAMPLES, PAIRS = 10, 1_000
"""A released correlation is the mean of ten samples of 1,000 pairs; the "stdv" beside it is their deviation."""

SPELLINGS = {spelling: run for run, others in RUNS.items() for spelling in (run, *others)} | {"rus_allseeds": POOLED}
# The oldest file of distances counts the Russian runs from 1. Matched like this with s0, s1, s2, its numbers are those
# that the runs' own output gives, to seven digits; with another match they are not.
COUNTED_FROM_ONE = {f"rus-eng s{number + 1}": f"rus-eng-s{number}" for number in range(3)}


class Pin(NamedTuple):
    """What a released file must be: its SHA-256 (hexadecimal) and its size in bytes.

    >>> pins()["results/bleu-scores2.csv"]
    Pin(sha256='f14dc7c3a4395c0c188f142bc5ed53bbfce5382a3ab63b1445a41f1363ee5fbd', size=604799)
    """

    sha256: str
    size: int


def run_of(name: str, spellings: dict[str, str] = SPELLINGS) -> str:
    """The run that a released file calls ``name``.

    Raises
    ------
    DataError
        If it is no known spelling.
    """
    if name not in spellings:
        raise DataError(f"{name!r} is no known spelling of a run's name; known are {sorted(spellings)}.")
    return spellings[name]


def is_russian(run: pd.Series) -> pd.Series:
    """Whether a run is one of those that differ in their seeds alone."""
    return run.str.startswith(f"{POOLED}-")


def on_released_targets(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows that the released analyses rest on: references for the Russian runs, own output for the others."""
    return frame[frame["target"] == np.where(is_russian(frame["run"]), "reference", "own")]


def pins() -> dict[str, Pin]:
    """The pinned checksum and size of every released file, by its path in the repository."""
    text = package_files("addends.replication").joinpath("checksums.txt").read_text(encoding="utf-8")
    rows = [line.split(maxsplit=2) for line in text.splitlines() if line and not line.startswith("#")]
    return {name: Pin(sha256, int(size)) for sha256, size, name in rows}


def named_folder() -> Path | None:
    """``$ADDENDS_DATA/published`` where that folder exists. It is the user's, and is only read.

    Raises
    ------
    DataError
        If ADDENDS_DATA is set and names no folder.
    """
    named = os.environ.get("ADDENDS_DATA")
    if not named:
        return None
    if not Path(named).is_dir():
        raise DataError(
            f"ADDENDS_DATA={named!r} is no folder. Set it to a folder that holds published/, or unset it to "
            "download the released files."
        )
    return Path(named) / "published" if (Path(named) / "published").is_dir() else None


def available() -> bool:
    """Whether ADDENDS_DATA names a folder that holds ``published/``, the released files. Nothing is downloaded.

    Raises
    ------
    DataError
        If ADDENDS_DATA is set and names no folder.
    """
    return named_folder() is not None


def fetch(name: str) -> Path:
    """Return the path of one released file, downloaded if need be, its size and SHA-256 checked.

    A download goes to a cache: ``$ADDENDS_CACHE``, or the operating system's cache folder for ``addends``.

    Parameters
    ----------
    name : str
        The path in the repository: ``"results/bleu-scores2.csv"``.

    Raises
    ------
    InputError
        If no released file has that name.
    DataError
        If the file is missing from a folder the user named, cannot be downloaded, or does not have the pinned
        size and checksum. An altered file is left where it is, never replaced.
    ImportError
        If pooch is not installed, which checks and downloads the files.
    """
    pooch = optional_module("pooch", EXTRA, "Reading the released files")
    known = pins()
    if name not in known:
        nearest = difflib.get_close_matches(name, known, cutoff=0)
        raise InputError(f"name={name!r} is none of the {len(known)} released files; the nearest are {nearest}.")
    pin, named = known[name], named_folder()
    place = named or Path(os.environ.get("ADDENDS_CACHE") or pooch.os_cache("addends")) / f"published-{COMMIT}"
    path, may_download = place / name, named is None
    if path.is_file():
        _check(pooch, path, pin, may_download)
    elif may_download:
        _download(pooch, name, pin, place)
    else:
        raise DataError(
            f"{path} is missing. Expected: SHA-256 {pin.sha256}, {pin.size:,} bytes; found: no file, so no checksum. "
            f"Restore it ({name} of {REPOSITORY} at commit {COMMIT}), or unset ADDENDS_DATA to download it."
        )
    return path


def fetch_all(progress: bool = False) -> Path:
    """`fetch` every released file; gives the folder that holds them.

    Parameters
    ----------
    progress : bool
        Show a progress bar.

    Raises
    ------
    DataError, ImportError
        As `fetch` does.
    """
    names = list(pins())
    paths = [fetch(name) for name in tqdm(names, desc="released files", unit="file", disable=not progress)]
    return paths[0].parents[len(Path(names[0]).parts) - 1]


def _check(pooch: ModuleType, path: Path, pin: Pin, may_download: bool) -> None:
    found = Pin(pooch.file_hash(path, alg="sha256"), path.stat().st_size)
    if found == pin:
        return
    remedy = (
        "Delete it; the next call downloads it again."
        if may_download
        else f"Restore it from {REPOSITORY} at commit {COMMIT}, or unset ADDENDS_DATA to download it."
    )
    raise DataError(
        f"{path} is not the released file: it was altered or cut short. Expected: SHA-256 {pin.sha256}, "
        f"{pin.size:,} bytes; found: SHA-256 {found.sha256}, {found.size:,} bytes. {remedy}"
    )


def _download(pooch: ModuleType, name: str, pin: Pin, place: Path) -> None:
    failures = []
    for base_url in BASE_URLS:
        # pooch writes beside the target, checks the checksum, and only then moves the file into place.
        registry = {name: f"sha256:{pin.sha256}"}
        source = pooch.create(path=place, base_url=base_url, registry=registry, retry_if_failed=RETRIES)
        try:
            source.fetch(name, progressbar=True)
        except (OSError, ValueError) as error:  # requests' errors are OSErrors; a wrong checksum is a ValueError
            failures.append(f"  {base_url}{name}: {error}")
        else:
            return
    raise DataError(
        f"{name} could not be downloaded to {place}. Expected: SHA-256 {pin.sha256}, {pin.size:,} bytes; found:\n"
        + "\n".join(failures)
        + f"\nCheck the network and call again, or put the file into a folder published/{Path(name).parent}/ and set "
        "ADDENDS_DATA to the folder that holds published/."
    )
