"""Where results come from: the versions of the packages that made them, and the digests of the files they rest on."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import struct
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from packaging.requirements import Requirement

from addends.errors import DataError, InputError


def versions(distribution: str = "addends") -> pd.DataFrame:
    """The installed versions of ``distribution`` and of everything it names as a dependency.

    The names are read from the distribution's own metadata, so that the table cannot fall behind pyproject.toml.

    Parameters
    ----------
    distribution : str
        An installed distribution.

    Returns
    -------
    DataFrame
        One row a package: ``package``, ``extra`` (the extra that asks for it, "base" where it is always installed),
        ``version`` (missing where the extra is not installed). Python comes first, then the distribution itself,
        then its dependencies by extra and name.

    Raises
    ------
    InputError
        If ``distribution`` is not installed.
    """
    try:
        requirements = importlib.metadata.requires(distribution) or []
    except importlib.metadata.PackageNotFoundError:
        raise InputError(
            f"distribution={distribution!r} is not installed here. Install it (for this project: `make env`), or name "
            "one that `pip list` shows."
        ) from None
    extras = importlib.metadata.metadata(distribution).get_all("Provides-Extra") or []
    rows = [("python", "base", platform.python_version()), (distribution, "base", _version_of(distribution))]
    for extra in ["base", *extras]:
        named = {one.name for one in map(Requirement, requirements) if _asked_by(one, extras) == extra}
        rows += [(package, extra, _version_of(package)) for package in sorted(named, key=str.lower)]
    return pd.DataFrame(rows, columns=["package", "extra", "version"])


def hashes(folder: str | os.PathLike) -> pd.DataFrame:
    """The SHA-256 digest and the size of every file under ``folder``.

    Parameters
    ----------
    folder : path
        Searched to any depth.

    Returns
    -------
    DataFrame
        One row a file, sorted by path: ``file`` (relative to ``folder``, with forward slashes), ``bytes``, ``sha256``
        (64 hexadecimal digits).

    Raises
    ------
    DataError
        If there is no such folder, or no file in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(
            f"There is no folder {folder}. Give the folder that holds the files, such as the project's data/."
        )
    files = sorted((file.relative_to(folder).as_posix(), file) for file in folder.rglob("*") if file.is_file())
    if not files:
        raise DataError(f"The folder {folder} holds no file. Restore its files from version control.")
    return pd.DataFrame(
        [{"file": name, "bytes": file.stat().st_size, "sha256": file_sha256(file)} for name, file in files],
        columns=["file", "bytes", "sha256"],
    )


def file_sha256(file: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def content_sha256(content: object) -> str:
    """SHA-256 of nested dictionaries, sequences, tensors, arrays and plain values, whatever file they come from.

    Raises
    ------
    DataError
        If something else is in it.
    """
    digest = hashlib.sha256()
    for piece in _pieces(content):
        digest.update(struct.pack("<q", len(piece)))  # so that "ab" + "c" is not "a" + "bc"
        digest.update(piece)
    return digest.hexdigest()


def _pieces(content: Any) -> Iterable[bytes]:
    if isinstance(content, Mapping):
        yield b"{"
        for name in sorted(content, key=repr):
            yield repr(name).encode()
            yield from _pieces(content[name])
        yield b"}"
    elif hasattr(content, "detach"):  # a tensor: torch is not imported here, and need not be installed
        if str(content.dtype) == "torch.bfloat16":  # which numpy lacks; as float32 its values are the same
            yield b"bfloat16"
            content = content.float()
        yield from _pieces(content.detach().cpu().numpy())
    elif isinstance(content, np.ndarray):
        yield f"{content.dtype.str}{content.shape}".encode()
        yield np.ascontiguousarray(content).tobytes()
    elif isinstance(content, list | tuple):
        yield b"["
        for item in content:
            yield from _pieces(item)
        yield b"]"
    elif content is None or isinstance(content, bool | int | float | str):
        yield repr(content).encode()
    elif isinstance(content, np.generic):
        yield repr(content.item()).encode()
    else:
        raise DataError(f"A {type(content).__name__} cannot be digested: tensors, arrays and plain values can.")


def origin(
    model: Any, name: str, sources: Sequence[str], targets: Sequence[str] | None = None, command: str | None = None
) -> pd.DataFrame:
    """Where a report on a model comes from: which weights and sentences, which versions, when, and by which command.

    Parameters
    ----------
    model : PreTrainedModel
    name : str
        The folder or name that it was loaded from.
    sources, targets : sequence of str
        What it was measured on.
    command : str, optional
        What was typed.

    Returns
    -------
    DataFrame
        One row a fact: ``what``, ``value`` (text).
    """
    installed = versions().set_index("package")["version"]
    wanted = ("python", "addends", "torch", "transformers", "numpy", "pandas", "scipy")
    texts = {"sources": sources, "targets": targets or []}
    facts = {
        "model": name,
        "commit on the Hub": getattr(model.config, "_commit_hash", None),
        "weights, SHA-256": content_sha256(model.state_dict()),
        "sentences": f"{len(sources)}, {'with' if targets else 'without'} targets",
        "sentences, SHA-256": content_sha256({side: list(lines) for side, lines in texts.items()}),
        "versions": ", ".join(f"{package} {installed[package]}" for package in wanted if package in installed),
        "machine": f"{platform.machine()}, {platform.system()} {platform.release()}",
        "executed": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "command": command,
    }
    return pd.DataFrame([(what, value) for what, value in facts.items() if value], columns=["what", "value"])


def _version_of(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _asked_by(requirement: Requirement, extras: list[str]) -> str | None:
    """Which of ``extras`` brings ``requirement`` in; "base" if none is needed, None if this platform never does."""
    if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
        return "base"
    return next((extra for extra in extras if requirement.marker.evaluate({"extra": extra})), None)


def save_figure(notebook: str | os.PathLike, name: str, path: str | os.PathLike) -> Path:
    """Write the figure that an executed notebook shows under ``name`` to ``path``, as SVG on white.

    ``name`` is what the cell's metadata call the figure (``mystnb: figure: name``).

    Raises
    ------
    DataError
        If the notebook is missing, or shows no picture of that name.
    """
    notebook, path = Path(notebook), Path(path)
    if not notebook.exists():
        raise DataError(f"{notebook} is missing. Build the book first: it executes the notebooks.")
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        if cell["metadata"].get("mystnb", {}).get("figure", {}).get("name") == name:
            for output in cell.get("outputs", []):
                if "image/svg+xml" in output.get("data", {}):
                    picture = "".join(output["data"]["image/svg+xml"])
                    # Figures have no background; where this one is shown, the page behind it may be dark.
                    path.write_text(picture.replace("<svg ", '<svg style="background: white" ', 1), encoding="utf-8")
                    return path
    raise DataError(f"{notebook} shows no picture in a figure named {name!r}. It may not have been executed.")
