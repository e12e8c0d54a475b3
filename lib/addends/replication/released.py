"""The released result files of Mickus and Vázquez (2023): finding them, downloading them, checking every byte.

The files lie in the repository of the paper's code and state no licence, so they are not shipped: they are read from
``$ADDENDS_DATA/published``, or else downloaded once into a cache. What is pinned is each file: its size and its SHA-256
stand in ``checksums.txt`` beside this module, so both ways give the same bytes or an error. The commit says where these
files were found, by the short id that was noted with the figures; it is an address, not a guarantee.

References
----------
Mickus and Vázquez (2023), Why Bother with Geometry? On the Relevance of Linear Decompositions of Transformer
Embeddings, BlackboxNLP, https://aclanthology.org/2023.blackboxnlp-1.10
"""

from __future__ import annotations

import hashlib
import os
from importlib.resources import files as package_files
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pooch

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


class Pin(NamedTuple):
    """What a released file must be: its SHA-256 (hexadecimal) and its size in bytes."""

    sha256: str
    size: int


def files() -> pd.DataFrame:
    """List the released files: ``name`` (the path in the repository), ``bytes`` and ``sha256``, one row a file."""
    rows = [(name, pin.size, pin.sha256) for name, pin in pins().items()]
    return pd.DataFrame(rows, columns=["name", "bytes", "sha256"])


def pins() -> dict[str, Pin]:
    """The pinned checksum and size of every released file, by its path in the repository."""
    text = package_files("addends.replication").joinpath("checksums.txt").read_text(encoding="utf-8")
    rows = [line.split(maxsplit=2) for line in text.splitlines() if line and not line.startswith("#")]
    return {name: Pin(sha256, int(size)) for sha256, size, name in rows}


def folder() -> tuple[Path, bool]:
    """Where the released files are looked for, and whether missing ones may be downloaded there.

    ``$ADDENDS_DATA/published`` where that folder exists: it is the user's and is only read. Otherwise a cache that
    missing files are downloaded into: ``$ADDENDS_CACHE``, or the operating system's cache folder for ``addends``.

    Raises
    ------
    DataError
        If ADDENDS_DATA is set and names no folder.
    """
    named = os.environ.get("ADDENDS_DATA")
    if named:
        if not Path(named).is_dir():
            raise DataError(
                f"ADDENDS_DATA={named!r} is no folder. Set it to a folder that holds published/, or unset it to "
                "download the released files."
            )
        if (Path(named) / "published").is_dir():
            return Path(named) / "published", False
    cache = os.environ.get("ADDENDS_CACHE") or pooch.os_cache("addends")
    return Path(cache) / f"published-{COMMIT}", True


def fetch(name: str) -> Path:
    """Return the path of one released file, downloaded if need be, its size and SHA-256 checked.

    Parameters
    ----------
    name : str
        The path in the repository, one of ``files()["name"]``: ``"results/bleu-scores2.csv"``.

    Raises
    ------
    InputError
        If no released file has that name.
    DataError
        If the file is missing from a folder the user named, cannot be downloaded, or does not have the pinned
        size and checksum. An altered file is left where it is, never replaced.
    """
    known = pins()
    if name not in known:
        raise InputError(f"name={name!r} is none of the {len(known)} released files; published.files() lists them.")
    pin = known[name]
    place, may_download = folder()
    path = place / name
    if path.is_file():
        _check(path, pin, may_download)
    elif may_download:
        _download(name, pin, place)
    else:
        raise DataError(
            f"{path} is missing. Expected: SHA-256 {pin.sha256}, {pin.size:,} bytes; found: no file, so no checksum. "
            f"Restore it ({name} of {REPOSITORY} at commit {COMMIT}), or unset ADDENDS_DATA to download it."
        )
    return path


def _check(path: Path, pin: Pin, may_download: bool) -> None:
    content = path.read_bytes()  # the largest has 3.5 MB
    found = Pin(hashlib.sha256(content).hexdigest(), len(content))
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


def _download(name: str, pin: Pin, place: Path) -> None:
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
