"""Train and measure the runs of a suite: ``python -m addends.runs toy``, ``python -m addends.runs european``.

A run whose tables are there is left alone, one that was cut off goes on. One core a run, several runs at once, each in
a process of its own: results then do not depend on how many cores there are.
"""

from __future__ import annotations

import argparse
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from addends.errors import AddendsError, DataError
from addends.runs import european, finished, lineage, unit
from addends.runs.suite import Suite
from addends.runs.toy import suite as toy_suite

SUITES = {suite.name: suite for suite in (toy_suite.SUITE, european.SUITE)}


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line and do the runs."""
    parser = argparse.ArgumentParser(prog="python -m addends.runs", description=__doc__)
    parser.add_argument("suite", choices=sorted(SUITES))
    parser.add_argument("--run", action="append", help="only this run; may be given several times")
    parser.add_argument("--work", type=Path, default=Path("runs"), help="checkpoints go here (default: runs/)")
    parser.add_argument("--data", type=Path, default=Path("data"), help="tables go here (default: data/)")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, one core each (default: 2)")
    parser.add_argument("--again", action="store_true", help="also do runs whose tables are in the data folder")
    parser.add_argument("--cpu", action="store_true", help="use the CPU even where there is a GPU")
    parser.add_argument("--ship", metavar="RUN", help="then copy this run's last checkpoint to the data folder")
    parser.add_argument("--chain", metavar="RUN", help="verify and print this run's chain; train nothing")
    options = parser.parse_args(arguments)
    if options.jobs < 1:
        parser.error(f"--jobs {options.jobs}: at least 1 run at a time is needed")
    suite = SUITES[options.suite]
    try:
        wanted = dict.fromkeys(options.run or [run.name for run in suite.runs])  # two processes on one run would clash
        names = [suite.run(name).name for name in wanted]
        for name in filter(None, (options.ship, options.chain)):
            suite.run(name)
        if options.chain and not options.run:
            names = []
        if not options.again:
            names = [name for name in names if _is_to_do(suite, name, options.data)]
        if names:
            suite.tokenizer(options.work / suite.name / "vocabulary")  # once, before the runs share it
            _do(suite, names, options)
        if options.chain:
            _print_chain(suite, options.chain, options.work)
        if options.ship:
            _ship(suite, options.ship, options.work, options.data)
    except AddendsError as error:
        parser.exit(1, f"{parser.prog}: {error}\n")


def _do(suite: Suite, names: list[str], options: argparse.Namespace) -> None:
    jobs = [(suite, name, options.work, options.data, options.cpu) for name in names]
    if min(options.jobs, len(names)) == 1:
        for job in jobs:
            unit.train_and_measure(*job)
        return
    context = multiprocessing.get_context("spawn")  # a forked process would inherit torch's threads
    with ProcessPoolExecutor(min(options.jobs, len(names)), mp_context=context) as pool:
        for done in [pool.submit(unit.train_and_measure, *job) for job in jobs]:
            done.result()


def _print_chain(suite: Suite, name: str, work: Path) -> None:
    folder = work / suite.name / name
    manifest = lineage.chain(folder, suite.recipe.checkpoints)
    wrong = lineage.broken_links(manifest) + lineage.altered_files(folder, manifest)
    for row in manifest.itertuples():
        print(f"{row.checkpoint:>6}  weights {row.weights[:12]}  batches {row.batches[:12]}  after {row.previous[:12]}")
    if wrong:
        raise DataError(f"The chain of {name} is broken: " + "; ".join(wrong))
    last = manifest.iloc[-1]
    print(f"{name}: {len(manifest)} records, from step 0 to {last.checkpoint}, each follows from the one before")


def _is_to_do(suite: Suite, name: str, data: Path) -> bool:
    """Whether a run is not finished; says so where it is, or where some of its tables are there."""
    missing = finished.lacks(suite, name, data)
    if missing is None:
        print(f"{name} is there: {data}/{suite.name}/*/{name}.parquet; --again makes it anew")
        return False
    if finished.is_begun(suite, name, data):
        print(f"{name} is not finished: {missing}")
    return True


def _ship(suite: Suite, name: str, work: Path, data: Path) -> None:
    if unit.is_shipped(suite, name, data) and not unit.is_trained(suite, name, work):
        print(f"{data}/{suite.name}/checkpoint is there: the last checkpoint of {name}")
    else:
        print(f"Shipped {unit.ship(suite, name, work, data)}")


if __name__ == "__main__":
    main()
