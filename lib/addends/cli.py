"""The command `addends`: trains and measures suites, says how far they are, and computes the book's own tables.

What a newcomer types first::

    addends train toy
    addends measure toy
    addends status toy
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

import crossed.coverage
from addends import pages, replication, statistics, tables
from addends.checks import check_choice
from addends.errors import AddendsError, DataError, InputError
from addends.runs import SUITES, Suite, corpora, downloads, faults, progress, read_suite, sentences, workfolder

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

BENCHMARKS = Path("tests") / "benchmarks"

SuiteName = Annotated[str, typer.Argument(metavar="SUITE", help=f"One of: {', '.join(SUITES)}; or a YAML file.")]
Only = Annotated[list[str] | None, typer.Option(metavar="RUN", help="Only this run; may be given several times.")]
Work = Annotated[Path, typer.Option(help="Weights and shards are in this folder.")]
Data = Annotated[Path, typer.Option(help="Tables are in this folder.")]
Workers = Annotated[int, typer.Option(min=1, help="Processes on this machine, one core each.")]
Scheduler = Annotated[
    str | None, typer.Option(metavar="ADDRESS", help="Use the workers of this Dask scheduler: tcp://host:8786.")
]
Cpu = Annotated[bool, typer.Option("--cpu", help="Use the CPU even where there is a GPU.")]


class Corpus(StrEnum):
    """What `addends fetch` gets."""

    published = "published"
    tatoeba = "tatoeba"


class Kind(StrEnum):
    """What several models are, for `addends report`."""

    seeds = "seeds"
    checkpoints = "checkpoints"


@app.callback()
def addends() -> None:
    """Transformer states as exact sums of vectors: train and measure suites of runs.

    A newcomer types, in this order:

        addends train toy      (trains three small models: some minutes)

        addends measure toy    (decomposes them at every checkpoint)

        addends status toy     (says what is done, missing, broken)
    """


@app.command()
def train(
    suite: SuiteName,
    only: Only = None,
    work: Work = Path("runs"),
    data: Data = Path("data"),
    workers: Workers = 2,
    scheduler: Scheduler = None,
    again: Annotated[bool, typer.Option("--again", help="Also train runs whose tables are there.")] = False,
    cpu: Cpu = False,
    ship: Annotated[str | None, typer.Option(metavar="RUN", help="Then copy its last checkpoint to the data.")] = None,
) -> None:
    """Train the runs of a suite.

    A run whose tables are there is left alone, one that was cut off goes on. Each run has a core and a process of its
    own, so that results do not depend on how many cores there are.
    """
    from addends.runs import job, scheduling  # they import torch

    chosen = _suite(suite)
    names = _runs(chosen, only)
    if ship is not None:
        chosen.run(ship)
    if not again:
        names = [name for name in names if _is_to_do(chosen, name, data)]
    if names:
        scheduling.train(chosen, names, work, workers, scheduler, cpu)
        print(f"Trained: {', '.join(names)}. Next: addends measure {suite}{_where(work, data)}")
    if ship is None:
        return
    if job.is_shipped(chosen, ship, data) and not workfolder.is_trained(chosen, ship, work):
        print(f"{data}/{chosen.name}/checkpoint is there: the last checkpoint of {ship}")
    else:
        print(f"Shipped {job.ship(chosen, ship, work, data)}")


@app.command()
def measure(
    suite: SuiteName,
    only: Only = None,
    work: Work = Path("runs"),
    data: Data = Path("data"),
    workers: Workers = 2,
    scheduler: Scheduler = None,
    again: Annotated[
        bool, typer.Option("--again", help="Measure anew what is altered, or was measured otherwise.")
    ] = False,
    cpu: Cpu = False,
) -> None:
    """Measure what is trained: translate, score and decompose at every checkpoint, and write the tables.

    What is measured is left alone. Several commands, on several machines, may measure one suite at a time.
    """
    from addends.runs import scheduling  # imports torch

    chosen = _suite(suite)
    asked = _runs(chosen, only)
    names = [name for name in asked if again or _is_to_do(chosen, name, data)]
    _refuse_stale(chosen, [name for name in asked if name not in names], work)
    trained = [name for name in names if chosen.models or workfolder.is_trained(chosen, name, work)]
    untrained = [name for name in names if name not in trained]
    if trained:
        scheduling.measure(chosen, trained, work, data, workers, scheduler, cpu, again)
        print(f"Measured: {', '.join(trained)}. Tables: {data}/{chosen.name}")
    if untrained:
        raise DataError(
            f"Not trained in {work}/{chosen.name}: {', '.join(untrained)}. Train first: addends train {suite}"
            f"{_where(work, data)}"
        )


@app.command()
def intervene(
    suite: SuiteName,
    only: Only = None,
    work: Work = Path("runs"),
    data: Data = Path("data"),
    seed: Annotated[int, typer.Option(min=0, help="Draws the sentences that means are taken over.")] = 0,
    again: Annotated[bool, typer.Option("--again", help="Also tables that are there.")] = False,
) -> None:
    """Ask what the parts of each trained run do: replace them, and see what becomes of what the run says.

    The table interventions has, sentence by sentence, the change of the reference's log-probability and logit,
    token_agreement how well the decomposition tells it, and attributions how well it and other methods tell what single
    source tokens do. Tables that are there are left alone.
    """
    from addends.runs import intervening  # imports torch

    chosen, names = _trained(suite, only, work)
    for file in intervening.intervene(chosen, names, work, data, seed, again):
        print(f"There: {file}")


@app.command()
def compare(
    suite: SuiteName,
    only: Only = None,
    work: Work = Path("runs"),
    data: Data = Path("data"),
    block: Annotated[str | None, typer.Option(help="Only the runs of this block, into a table of its own.")] = None,
    checkpoint: Annotated[
        list[int] | None,
        typer.Option(metavar="STEP", help="At this step; may be given several times. Default: the last."),
    ] = None,
    stitch: Annotated[
        bool, typer.Option("--stitch", help="Also have every run's decoder read every other run's encoder.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Draws rows, sentences and rotations.")] = 0,
    again: Annotated[bool, typer.Option("--again", help="Also what is there.")] = False,
) -> None:
    """Compare the trained runs of a suite two by two: their spaces, what they say next, and whether they fit together.

    The table run_pairs has how alike the states and parts of two runs are. With --stitch, the table stitches has how
    well a run's decoder reads another's encoder through maps of five kinds. Tables that are there are left alone.
    """
    from addends.runs import comparing, stitching_runs  # they import torch

    chosen, names = _trained(suite, only, work, block)
    last = max(step for name in names for step in chosen.checkpoints_of(chosen.run(name)))
    for step in checkpoint or [last]:
        rows = tables.ROWS if step == last else tables.ROWS[:2]  # rows in another order: the floor of the end alone
        print(f"There: {comparing.compare(chosen, names, step, work, data, rows, seed, again, block)}")
    if stitch:
        for file in stitching_runs.stitch(chosen, names, work, data, seed=seed, again=again):
            print(f"There: {file}")


@app.command()
def status(
    suite: SuiteName,
    only: Only = None,
    work: Work = Path("runs"),
    data: Data = Path("data"),
    again: Annotated[
        str | None, typer.Option("--replay", metavar="RUN", help="Also train a stretch of this run again, and compare.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Draws the stretch; another one each time without it.")
    ] = None,
) -> None:
    """Say what of a suite is done, missing, broken or stale, how large it is, and how long the rest may take.

    Chains of checkpoints and their weights are verified where they are, and so is every shard. With --replay, a run's
    start and the order of its batches are drawn from its seeds again, and a stretch of it is trained again. The exit
    status is 1 where something is broken.
    """
    chosen = _suite(suite)
    names = _runs(chosen, only)
    table = progress.progress(chosen, names, work, data)
    width = max(len(name) for name in names)
    for row in table.itertuples():
        checkpoints = len(chosen.checkpoints_of(chosen.run(row.run)))
        counts = f"trained {row.trained}/{checkpoints}, measured {row.measured}/{checkpoints}"
        sizes = f"{row.megabytes_work:.0f} MB of work, {row.megabytes_data:.1f} MB of tables"
        print(f"{row.run:{width}}  {row.block}: {'finished' if row.tables == 'finished' else counts}; {sizes}")
    for row in table[(table["tables"] != "finished") & (table["megabytes_data"] > 0)].itertuples():
        print(f"{row.run}: {row.tables}")
    for run, step, left_over in progress.half_written(chosen, names, work):
        print(f"{run}: step {step} is half written, or being written, in {left_over}; addends measure writes it anew")
    finished, left = int((table["tables"] == "finished").sum()), progress.seconds_left(chosen, table, work)
    time = "unknown before one is trained and measured here" if left is None else f"{timedelta(seconds=round(left))}"
    print(f"{finished} of {len(table)} runs are finished. Time left, on one core: {time}.")
    found = [progress.shard_faults(chosen, names, work)]
    found += [] if chosen.models else [faults.faults(chosen, work, data, names)]
    lines = [f"  {row.run}, step {row.checkpoint} ({row.fault}): {row.words}" for row in pd.concat(found).itertuples()]
    if lines:
        raise DataError("\n".join([f"{len(lines)} fault(s):", *lines]))
    if again is not None:
        _replay(chosen, again, work, seed)


@app.command()
def fetch(
    what: Annotated[Corpus, typer.Argument(help="The paper's released tables, or sentence pairs of Tatoeba.")],
    folder: Annotated[
        Path | None, typer.Option(help="Pairs go here, as corpora/; set ADDENDS_DATA to it. Default: ./corpora-data")
    ] = None,
    language: Annotated[list[str] | None, typer.Option(help="Source language; may be given several times.")] = None,
) -> None:
    """Download what the repository does not hold; every file's checksum is checked.

    Released tables are checked against pinned checksums, and go to a cache. Pairs come from a versioned release, whose
    checksums are kept beside them at the first download and checked at every later one.
    """
    if what is Corpus.published:
        folder_of_tables = replication.fetch_all(progress=True)
        print(f"The released tables are in {folder_of_tables}.")
        return
    place = folder or Path("corpora-data")
    for file in downloads.tatoeba(language or list(downloads.LANGUAGES), place):
        print(f"Written: {file}")
    print(f"Set ADDENDS_DATA={place.absolute()} to train on them.")


@app.command()
def report(
    context: typer.Context,
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="A folder written by save_pretrained, a name on the Hub, or a folder of such folders.",
        ),
    ],
    sources: Annotated[Path, typer.Option(metavar="FILE", help="One sentence a line, UTF-8; texts of a single stack.")],
    targets: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Their references, line by line. Default: the model's own translations."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The report goes here. Default: report-<model>.html")
    ] = None,
    are: Annotated[
        Kind | None, typer.Option(help="What several models are: runs trained apart, or checkpoints of one run.")
    ] = None,
    source_language: Annotated[
        str | None, typer.Option(help="Of a multilingual model, as its tokenizer has it.")
    ] = None,
    target_language: Annotated[str | None, typer.Option(help="The same, of what it writes.")] = None,
    revision: Annotated[str | None, typer.Option(help="Of a model on the Hub: a branch, a tag or a commit.")] = None,
    dtype: Annotated[str, typer.Option(help="float32, float64, float16 or bfloat16.")] = "float32",
    device: Annotated[str, typer.Option(help="Where the model runs: cpu, cuda, ...")] = "cpu",
    code: Annotated[bool, typer.Option("--code", help="Show the code too.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Replace a report that is there.")] = False,
) -> None:
    """Report on a model of yours in one HTML file: can it be decomposed, how exactly, at what cost, and what comes out?

    Of several models that were trained apart (seeds) the report also says whose variance it is: run or sentence? The
    checks and pictures are of the first sixteen sentences, and the first line is the one that is drawn.
    """
    given = corpora.read_sentences(sources)
    references = None if targets is None else corpora.read_sentences(targets)
    if references is not None and len(references) != len(given):
        raise DataError(
            f"{sources} has {len(given)} lines and {targets} has {len(references)}: the target of a source stands "
            "on the same line. Mend one of the two files."
        )
    options = {"revision": revision, "dtype": dtype, "device": device}
    options |= {"source_language": source_language, "target_language": target_language}
    written = pages.report(
        models,
        given,
        references,
        output,
        are=None if are is None else are.value,
        again=again,
        code=code,
        command=shlex.join(["addends", *context.obj]),
        parameters=options,
    )
    print(f"Written: {written}")


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


@app.command()
def bench(
    only: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Only this benchmark.")] = None,
    output: Annotated[Path, typer.Option(help="The tables go here.")] = Path("data/performance"),
) -> None:
    """Measure speed and memory anew, as ratios in one run; let nothing else run meanwhile.

    The benchmarks are in the repository, in tests/benchmarks: call this in its folder.
    """
    there = {file.stem.removeprefix("bench_"): file for file in sorted(BENCHMARKS.glob("bench_*.py"))}
    if not there:
        raise DataError(f"There is no {BENCHMARKS} here. Call `addends bench` in a clone of the repository.")
    for name in only or there:
        check_choice("only", name, sorted(there), "addends bench")
        subprocess.run([sys.executable, str(there[name]), "--output", str(output)], check=True)


def main(arguments: list[str] | None = None) -> None:
    """Run the command; an error in words is one paragraph on standard error, and exit status 1."""
    try:
        app(arguments, prog_name="addends", obj=sys.argv[1:] if arguments is None else arguments)
    except (AddendsError, ImportError, OSError) as error:  # an extra that is missing, a folder that is read-only
        typer.echo(f"addends: {error}", err=True)
        raise SystemExit(1) from error


def _suite(name: str) -> Suite:
    try:
        return read_suite(name)
    except InputError as error:
        if Path(name).exists():  # a file of the user's, in which something is wrong: how to call is not the question
            raise
        raise typer.BadParameter(str(error)) from error


def _where(work: Path, data: Path) -> str:
    """The options that name these folders, as they are typed; nothing of those that are taken without them."""
    given = (("work", work, Path("runs")), ("data", data, Path("data")))
    return "".join(f" --{name} {shlex.quote(str(path))}" for name, path, usual in given if path != usual)


def _refuse_stale(suite: Suite, finished: list[str], work: Path) -> None:
    """Refuse to leave tables alone whose shards were measured otherwise than the suite says now, or on other weights.

    Raises
    ------
    DataError
        If there are such.
    """
    found = progress.shard_faults(suite, finished, work)
    stale = found.loc[found["fault"] == "stale", "words"].tolist()
    if stale:
        more = f" (and {len(stale) - 1} more)" if len(stale) > 1 else ""
        raise DataError(f"The tables are there, but {stale[0].rstrip('.')}{more}. --again measures anew.")


def _replay(suite: Suite, name: str, work: Path, seed: int | None) -> None:
    """Print what a run's seeds and a replay prove.

    Raises
    ------
    DataError
        If something of it does not hold.
    """
    from addends.runs import proofs, replay, training  # they import torch

    tokenizer = sentences.tokenizer(suite, workfolder.of_vocabulary(suite, work))
    with training.one_bar():
        proven, replayed = proofs.prove(suite, name, work, tokenizer), replay.replay(suite, name, work, seed)
    for row in [*proven.itertuples(), *replayed.itertuples()]:
        print(f"{name}: {row.words.removeprefix(f'{name}: ')}")
    failed = [*proven.loc[proven["holds"].eq(False), "words"], *replayed.loc[replayed["holds"].eq(False), "words"]]
    if failed:
        raise DataError(f"{name} is not what its seeds and states make: {'; '.join(failed)}")


def _runs(suite: Suite, only: list[str] | None) -> list[str]:
    """The runs wanted, each once: two processes on one run would clash."""
    return [suite.run(name).name for name in dict.fromkeys(only or [run.name for run in suite.runs])]


def _trained(name: str, only: list[str] | None, work: Path, block: str | None = None) -> tuple[Suite, list[str]]:
    """The suite, and those of its runs that are asked for and trained; says which are not.

    Raises
    ------
    DataError
        If none is trained, or one that is named with --only is not.
    InputError
        If the suite has no such block.
    """
    suite = _suite(name)
    if block is not None:
        check_choice("block", block, [each.name for each in suite.blocks], f"The suite {suite.name!r}")
    names = [each for each in _runs(suite, only) if block in (None, suite.block_of(suite.run(each)).name)]
    there = [each for each in names if suite.models or workfolder.is_trained(suite, each, work)]
    missing = [each for each in names if each not in there]
    if missing and (only or not there):
        raise DataError(
            f"Not trained in {work}/{suite.name}: {', '.join(missing)}. Weights stay in the folder that they were "
            f"trained in: name it with --work, or train first: addends train {name}"
        )
    if missing:
        print(f"Left out, for they are not trained in {work}/{suite.name}: {', '.join(missing)}")
    return suite, there


def _is_to_do(suite: Suite, name: str, data: Path) -> bool:
    """Whether a run is not finished; says so where it is, or where some of its tables are there."""
    missing = workfolder.what_is_missing(suite, name, data)
    if missing is None:
        print(f"{name} is there: {data}/{suite.name}/*/{name}.parquet; --again makes it anew")
        return False
    if workfolder.is_begun(suite, name, data):
        print(f"{name} is not finished: {missing}")
    return True
