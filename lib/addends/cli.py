"""The command `addends`: trains and measures suites, says how far they are, and computes the tables of two pages.

What a newcomer types first::

    addends train toy
    addends status toy
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import crossed.coverage
from addends import replication, statistics, tables
from addends.checks import check_choice
from addends.errors import AddendsError, DataError, InputError
from addends.runs import SUITES, Suite, lineage, workfolder

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

SuiteName = Annotated[str, typer.Argument(metavar="SUITE", help=f"One of: {', '.join(sorted(SUITES))}.")]
Only = Annotated[list[str] | None, typer.Option(metavar="RUN", help="Only this run; may be given several times.")]
Work = Annotated[Path, typer.Option(help="Checkpoints are in this folder.")]
Data = Annotated[Path, typer.Option(help="Tables are in this folder.")]


@app.callback()
def addends() -> None:
    """Transformer states as exact sums: train and measure suites of runs, and compute the book's own tables.

    A newcomer types `addends train toy`, then `addends status toy`.
    """


@app.command()
def train(
    suite: SuiteName,
    only: Only = None,
    work: Work = Path("runs"),
    data: Data = Path("data"),
    workers: Annotated[int, typer.Option(min=1, help="Runs at a time, one core each.")] = 2,
    again: Annotated[bool, typer.Option("--again", help="Also do runs whose tables are there.")] = False,
    cpu: Annotated[bool, typer.Option("--cpu", help="Use the CPU even where there is a GPU.")] = False,
    ship: Annotated[str | None, typer.Option(metavar="RUN", help="Then copy its last checkpoint to the data.")] = None,
) -> None:
    """Train the runs of a suite and measure them.

    A run whose tables are there is left alone, one that was cut off goes on. Each run has a core and a process of its
    own, so that results do not depend on how many cores there are.
    """
    from addends.runs import job  # imports torch

    chosen = _suite(suite)
    names = _runs(chosen, only)
    if ship is not None:
        chosen.run(ship)
    if not again:
        names = [name for name in names if _is_to_do(chosen, name, data)]
    if names:
        job.train_and_measure_all(chosen, names, work, data, workers, cpu)
    if ship is None:
        return
    if job.is_shipped(chosen, ship, data) and not workfolder.is_trained(chosen, ship, work):
        print(f"{data}/{chosen.name}/checkpoint is there: the last checkpoint of {ship}")
    else:
        print(f"Shipped {job.ship(chosen, ship, work, data)}")


@app.command()
def status(suite: SuiteName, only: Only = None, work: Work = Path("runs"), data: Data = Path("data")) -> None:
    """Say how far the runs of a suite are, and verify their chains.

    Every run is finished, or the line says what it lacks. Where the work folder holds a trained run, its chain of
    checkpoints and their weights are verified. The exit status is 1 where a chain is broken.
    """
    chosen, broken = _suite(suite), []
    for name in _runs(chosen, only):
        missing = workfolder.what_is_missing(chosen, name, data)
        print(f"{name}: {'finished' if missing is None else missing}")
        folder = work / chosen.name / name
        if not workfolder.is_trained(chosen, name, work):
            continue
        try:
            manifest = lineage.chain(folder, chosen.recipe.checkpoints)
            wrong = lineage.broken_links(manifest) + lineage.altered_files(folder, manifest)
        except DataError as error:  # a record is missing: the other runs are looked at all the same
            wrong = [str(error)]
        broken += [f"{name}: {complaint}" for complaint in wrong]
        if not wrong:
            last = manifest["checkpoint"].iloc[-1]
            print(f"{name}: {len(manifest)} records from step 0 to {last}, each follows from the one before")
    if broken:
        raise DataError("Chains are broken.\n  " + "\n  ".join(broken))


@app.command()
def coverage(
    simulations: Annotated[int, typer.Option(min=1, help="Tables for each combination.")] = 4_000,
    draws: Annotated[int, typer.Option(min=100, help="Draws for each interval.")] = 2_000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random numbers.")] = 0,
    output: Annotated[
        Path, typer.Option(help="The table goes here, and that of designs beside it (designs.parquet).")
    ] = Path("data/statistics/coverage.parquet"),
) -> None:
    """Simulate the coverage of intervals: of the run's variance, and of what designs would give.

    How often each kind of interval holds the truth is printed, and written with all else to the tables.
    """
    table = crossed.coverage.coverage(simulations=simulations, draws=draws, seed=seed)
    designs = statistics.design_coverage(simulations=simulations, draws=draws, seed=seed)
    for found, index, columns, file in (
        (table, ["quantity", "true_share", "runs"], "method", output),
        (designs, ["asked", "quantity", "run"], "pilot_runs", output.with_name("designs.parquet")),
    ):
        print(found.pivot_table(index=index, columns=columns, values="coverage").round(3).to_string())
        print(f"Written: {tables.write_parquet(found.assign(seed=seed, draws=draws), file)}")


@app.command()
def replicate(
    output: Annotated[Path, typer.Option(help="The tables go here.")] = Path("data/published_results"),
) -> None:
    """Derive the released results again, and write the tables.

    The released files are read from $ADDENDS_DATA/published, or downloaded. Some ten minutes on one core.
    """
    computed = replication.compute(progress=True)
    folder = replication.write(computed, output)
    for name, frame in computed.items():
        size = (folder / f"{name}.parquet").stat().st_size
        print(f"{folder}/{name}.parquet: {len(frame):,} rows, {size:,} bytes")


def main(arguments: list[str] | None = None) -> None:
    """Run the command; an error in words is one paragraph on standard error, and exit status 1."""
    try:
        app(arguments, prog_name="addends")
    except (AddendsError, ImportError, OSError) as error:  # an extra that is missing, a folder that is read-only
        typer.echo(f"addends: {error}", err=True)
        raise SystemExit(1) from error


def _suite(name: str) -> Suite:
    try:
        check_choice("SUITE", name, sorted(SUITES))
    except InputError as error:
        raise typer.BadParameter(str(error)) from error
    return SUITES[name]


def _runs(suite: Suite, only: list[str] | None) -> list[str]:
    """The runs wanted, each once: two processes on one run would clash."""
    return [suite.run(name).name for name in dict.fromkeys(only or [run.name for run in suite.runs])]


def _is_to_do(suite: Suite, name: str, data: Path) -> bool:
    """Whether a run is not finished; says so where it is, or where some of its tables are there."""
    missing = workfolder.what_is_missing(suite, name, data)
    if missing is None:
        print(f"{name} is there: {data}/{suite.name}/*/{name}.parquet; --again makes it anew")
        return False
    if workfolder.is_begun(suite, name, data):
        print(f"{name} is not finished: {missing}")
    return True
