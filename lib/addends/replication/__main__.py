"""Derive the released results again and write this project's figures: ``python -m addends.replication``.

The released files are read from $ADDENDS_DATA/published, or downloaded. Some ten minutes on one core.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from addends.errors import AddendsError
from addends.replication import compute, write


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line, compute, write."""
    parser = argparse.ArgumentParser(prog="python -m addends.replication", description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("data/published_results"), help="tables go here")
    options = parser.parse_args(arguments)
    try:
        tables = compute(progress=True)
        folder = write(tables, options.output)
    except AddendsError as error:
        parser.exit(1, f"{parser.prog}: {error}\n")
    for name, frame in tables.items():
        size = (folder / f"{name}.parquet").stat().st_size
        print(f"{folder}/{name}.parquet: {len(frame):,} rows, {size:,} bytes")


if __name__ == "__main__":
    main()
