"""The jobs of a suite given to processes: one after the other here, to workers on this machine, or to a scheduler.

Workers, here or elsewhere, are Dask's (``dask.distributed``, the extra "cluster"). A worker that dies gives its job to
another, which goes on from what is on the disk: a run from its last checkpoint, a shard from its beginning. Workers
elsewhere see the same work folder, and the same ``ADDENDS_DATA``, by the same path.

What was done is written, a line a job, to ``<work>/<suite>/log.txt``; on the screen there is one bar.
"""

from __future__ import annotations

import contextlib
import logging
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from addends.checks import optional_module
from addends.errors import AddendsError, DataError, InputError
from addends.runs import job, sentences, shards, workfolder
from addends.runs.suite import Suite

EXTRA = "cluster"
_CHILD = """
import os, pickle, sys
answer = os.fdopen(os.dup(1), "wb")
os.dup2(2, 1)  # what a library prints is no answer
from addends.errors import AddendsError
from addends.runs import job
try:
    outcome = job.train(*pickle.load(sys.stdin.buffer))
except (AddendsError, OSError) as error:
    outcome = error
answer.write(pickle.dumps(outcome))
"""
_WAIT = 1.0  # seconds between two looks at shards that another process has claimed
_PATIENCE = "20s"  # for a scheduler to answer


def train(
    suite: Suite,
    names: Sequence[str],
    work: Path,
    workers: int = 1,
    scheduler: str | None = None,
    cpu: bool = False,
) -> None:
    """Train the runs ``names`` of a suite, ``workers`` at a time, a core each.

    Parameters
    ----------
    scheduler : str or None
        The address of a Dask scheduler, whose workers are used in place of this machine's.

    Raises
    ------
    InputError
        If nothing answers at that address, or the suite is of models that exist.
    DataError
        If the scheduler goes away, or jobs keep ending their workers.
    """
    work = work.absolute()
    shards.refuse_read_only(work)
    sentences.tokenizer(suite, workfolder.of_vocabulary(suite, work))  # once, before the runs share it
    several = workers > 1 or scheduler is not None
    jobs = [(suite, name, work, cpu, several) for name in names]
    function = _train_apart if several else job.train
    with _log(suite, work) as log:
        done = _done(function, jobs, workers, scheduler, f"train {suite.name}", "run")
        for (_, name, *_), seconds, outcome in done:
            if outcome == "trained":
                log.info("trained %s in %.0f s", name, seconds)


def measure(
    suite: Suite,
    names: Sequence[str],
    work: Path,
    data: Path,
    workers: int = 1,
    scheduler: str | None = None,
    cpu: bool = False,
    again: bool = False,
) -> None:
    """Measure every checkpoint of the runs ``names``, which are trained, and write the tables of each.

    A unit of work is a shard, one checkpoint of one run. Shards that another process has claimed are waited for.

    Raises
    ------
    InputError, DataError
        As `train` and `addends.runs.job.measure` do.
    """
    work, data = work.absolute(), data.absolute()
    for folder in (work, data):
        shards.refuse_read_only(folder)
    jobs = [(suite, name, step, work, cpu, again) for name in names for step in suite.checkpoints_of(suite.run(name))]
    left = {name: len(suite.checkpoints_of(suite.run(name))) for name in names}
    with _log(suite, work) as log:
        done = _done(job.measure, jobs, workers, scheduler, f"measure {suite.name}", "checkpoint")
        for (_, name, step, *_), seconds, outcome in done:
            if outcome == "measured":
                log.info("measured %s at step %d in %.1f s", name, step, seconds)
            left[name] -= 1
            if not left[name]:
                job.write_tables(suite, name, work, data)
                log.info("wrote the tables of %s", name)


def _done(
    function: Callable, jobs: Sequence[tuple], workers: int, scheduler: str | None, what: str, unit: str
) -> Iterator[tuple[tuple, float, Any]]:
    """The jobs as they are done, their seconds and outcomes, under one progress bar.

    Those that another process has claimed come last: they are asked for here, again and again, until they are done.
    """
    here = scheduler is None and min(workers, len(jobs)) == 1
    with tqdm(total=len(jobs), desc=what, unit=unit) as bar:
        while jobs:
            claimed = []
            for given, seconds, outcome in (
                _one_by_one(function, jobs) if here else _by_dask(function, jobs, workers, scheduler)
            ):
                if outcome == "claimed":
                    claimed.append(given)
                    continue
                bar.update()
                yield given, seconds, outcome
            if claimed:
                bar.set_postfix_str(f"{len(claimed)} with another process", refresh=True)
                time.sleep(_WAIT)
            jobs, here = claimed, True


def _train_apart(*given: Any) -> str:
    """`job.train` in a process of its own: a Dask worker has threads that draw from Python's global generator.

    The run stays as it would be, but the record of that generator, which the chain holds, would not.
    """
    done = subprocess.run([sys.executable, "-c", _CHILD], input=pickle.dumps(given), stdout=subprocess.PIPE)
    if done.returncode:
        raise DataError(
            f"The process that trained {given[1]!r} ended with status {done.returncode}. Its checkpoints stay: call "
            "again, and it goes on from the last."
        )
    outcome = pickle.loads(done.stdout)
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def _one_by_one(function: Callable, jobs: Iterable[tuple]) -> Iterator[tuple[tuple, float, Any]]:
    for given in jobs:
        yield given, *_timed(function, given)


def _timed(function: Callable, given: tuple) -> tuple[float, Any]:
    begun = time.monotonic()
    try:
        outcome = function(*given)
    except OSError as error:  # in a worker, where an OSError of the connection would read the same
        raise DataError(f"The run {given[1]!r} of the suite {given[0].name!r} cannot go on: {error}.") from error
    return time.monotonic() - begun, outcome


def _by_dask(
    function: Callable, jobs: Sequence[tuple], workers: int, scheduler: str | None
) -> Iterator[tuple[tuple, float, Any]]:
    distributed = optional_module("distributed", EXTRA, "Work in several processes")
    with contextlib.ExitStack() as stack:
        try:
            if scheduler is None:
                # Each job has one thread; memory is the user's to watch: a limit would end workers in mid-work.
                cluster = stack.enter_context(
                    distributed.LocalCluster(
                        n_workers=min(workers, len(jobs)),
                        threads_per_worker=1,
                        memory_limit=0,
                        dashboard_address=None,
                        silence_logs=logging.CRITICAL,
                    )
                )
                client = stack.enter_context(distributed.Client(cluster))
            else:
                client = stack.enter_context(distributed.Client(scheduler, timeout=_PATIENCE))
        except (OSError, TimeoutError, ValueError) as error:
            raise InputError(
                f"scheduler={scheduler!r}: no Dask scheduler answers there ({error}). Start one (`dask scheduler`) "
                "and give the address that it prints, or leave --scheduler out to work on this machine."
            ) from error
        futures = {client.submit(_timed, function, given, pure=False): given for given in jobs}
        try:
            for future in distributed.as_completed(list(futures)):
                yield futures[future], *future.result()
        except AddendsError:
            client.cancel(list(futures))
            raise
        except distributed.scheduler.KilledWorker as error:
            raise DataError(
                f"A job ended the processes of several workers, one after the other: {error}. It may need more memory "
                "than there is. What is finished stays: call again with fewer --workers."
            ) from error
        except (distributed.client.FutureCancelledError, OSError) as error:
            raise DataError(
                f"The scheduler went away ({str(error).splitlines()[0]}). What is finished stays on the disk: call "
                "again, and it goes on from there."
            ) from error


@contextlib.contextmanager
def _log(suite: Suite, work: Path) -> Iterator[logging.Logger]:
    """A logger that adds lines, each with its time, to the log beside the suite's work."""
    place = work / suite.name / "log.txt"
    place.parent.mkdir(parents=True, exist_ok=True)
    logger = logging.getLogger(f"addends.runs.{place}")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    handler = logging.FileHandler(place, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(process)d %(message)s"))
    logger.addHandler(handler)
    try:
        yield logger
    finally:
        logger.removeHandler(handler)
        handler.close()
