"""How much memory does it take to read a part of a large table of measurements, and how much to read it whole?

    python tests/benchmarks/bench_tables.py [--runs 100] [--output data/performance]

A made-up suite in a temporary folder, a file a run of 100,000 rows each, so that 100 runs are ten million rows. Each
case is a process of its own, which reads by `addends.tables.read_suite` and says its largest resident size: the imports
alone; one cell of the table by column and filter, as a page on it does; these columns of all rows; all columns of the
cell; and the whole table. A case that runs out of memory is written down as missing.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from addends import tables

ROWS = 100_000  # of a run
COLUMNS = ["run", "checkpoint", "sentence", "importance"]
CELL = [("by", "==", "sublayer"), ("layer", "==", 3), ("term", "==", "S"), ("target", "==", "reference")]
CELL += [("checkpoint", ">=", 2850)]
CASES: dict[str, dict | None] = {
    "imports alone": None,
    "a cell by column and filter": {"columns": COLUMNS, "filters": CELL},
    "a cell, all columns": {"filters": CELL},
    "all rows, four columns": {"columns": COLUMNS},
    "whole": {},
}


def write(folder: Path, runs: int) -> None:
    """A suite of so many runs: 2 targets, 5 checkpoints, 250 sentences, 5 layers, 5 + 3 terms."""
    terms = [("sublayer", term) for term in "ISTFC"] + [("token", term) for term in "STC"]
    sentences = [f"made-up-{number:06}" for number in range(250)]
    levels = [["own", "reference"], [297, 1020, 2850, 2925, 3000], sentences, range(5), range(len(terms))]
    frame = pd.MultiIndex.from_product(levels, names=["target", "checkpoint", "sentence", "layer", "part"]).to_frame(
        index=False
    )
    part = frame.pop("part")
    frame["by"], frame["term"] = part.map(lambda one: terms[one][0]), part.map(lambda one: terms[one][1])
    generator = np.random.default_rng(0)
    for run in range(runs):
        values = {name: generator.normal(size=ROWS).astype("float32") for name in tables.INDICATORS}
        named = frame.assign(run=f"run-{run:03}", tokens=generator.integers(3, 40, ROWS), **values)
        tables.write(named, folder / "measurements" / f"run-{run:03}.parquet", "measurements")


def peak() -> float:
    """The largest resident size of this process so far, in megabytes.

    On Linux from the process's own memory map: ru_maxrss would still hold what its parent had when it was started.
    """
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        return int(line.split()[1]) / 1024
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size / (1024**2 if sys.platform == "darwin" else 1024)


def child(folder: str, case: str) -> None:
    options = CASES[case]
    found = {"rows": 0, "table_megabytes": 0.0}
    if options is not None:
        read = tables.read_suite(folder, "measurements", **options)
        found = {"rows": len(read), "table_megabytes": read.memory_usage(deep=True).sum() / 1e6}
    print(json.dumps(found | {"megabytes_peak": peak()}))


def measured(runs: int) -> pd.DataFrame:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), runs)
        disk = sum(file.stat().st_size for file in Path(folder).rglob("*.parquet")) / 1e6
        for case in CASES:
            command = [sys.executable, __file__, "--child", folder, case]
            answer = subprocess.run(command, capture_output=True, text=True)
            found = json.loads(answer.stdout) if answer.returncode == 0 else {}
            if answer.returncode:
                print(f"{case}: failed with {answer.returncode}\n{answer.stderr}", file=sys.stderr)
            print(case, found, file=sys.stderr)
            rows.append({"case": case, "rows": np.nan, "megabytes_peak": np.nan} | found)
    return pd.DataFrame(rows).assign(
        rows_there=runs * ROWS,
        disk_megabytes=disk,
        machine=platform.machine(),
        python=platform.python_version(),
        pandas=pd.__version__,
    )


def main() -> None:
    """Parse the command line, measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--child", nargs=2, metavar=("FOLDER", "CASE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(*options.child)
        return
    result = measured(options.runs)
    print(result.round(1).to_string(index=False))
    if options.output:
        print(f"Written: {tables.write_parquet(result, options.output / 'tables.parquet')}")


if __name__ == "__main__":
    main()
