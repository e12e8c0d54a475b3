"""The jobs of a suite given to processes: one after the other here, to workers on this machine, or to a scheduler.

Workers, here or elsewhere, are Dask's (``dask.distributed``, the extra "cluster"). A worker that dies gives its job to
another, which goes on from what is on the disk: a run from its last checkpoint, a shard from its beginning. Workers
elsewhere see the same work folder, and the same ``ADDENDS_DATA``, by the same path.

What was done is written, a line a job, to ``<work>/<suite>/log.txt``; on the screen there is one bar.
"""

from __future__ import annotations

import contextlib
import logging
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
        If nothing answers at that address.
    DataError
        If the scheduler goes away, or jobs keep ending their workers.
    """
    work = work.absolute()
    shards.refuse_read_only(work)
    sentences.tokenizer(suite, workfolder.of_vocabulary(suite, work))  # once, before the runs share it
    jobs = [(suite, name, work, cpu, workers > 1 or scheduler is not None) for name in names]
    with _log(suite, work) as log:
        for (_, name, *_), seconds, _ in _done(job.train, jobs, workers, scheduler, f"train {suite.name}", "run"):
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
    jobs = [(suite, name, step, work, cpu, again) for name in names for step in suite.recipe.checkpoints]
    left = {name: len(suite.recipe.checkpoints) for name in names}
    with _log(suite, work) as log:
        while jobs:
            claimed = []
            done = _done(job.measure, jobs, workers, scheduler, f"measure {suite.name}", "checkpoint")
            for given, seconds, outcome in done:
                _, name, step, *_ = given
                if outcome == "claimed":
                    claimed.append(given)
                    continue
                if outcome == "measured":
                    log.info("measured %s at step %d in %.1f s", name, step, seconds)
                left[name] -= 1
                if not left[name]:
                    job.write_tables(suite, name, work, data)
                    log.info("wrote the tables of %s", name)
            if len(claimed) == len(jobs):
                time.sleep(_WAIT)
            jobs = claimed


def _done(
    function: Callable, jobs: Sequence[tuple], workers: int, scheduler: str | None, what: str, unit: str
) -> Iterator[tuple[tuple, float, Any]]:
    """The jobs as they are done: what was given, seconds, and what came back; one progress bar over all."""
    with tqdm(total=len(jobs), desc=what, unit=unit) as bar:
        here = scheduler is None and min(workers, len(jobs)) == 1
        for done in _one_by_one(function, jobs) if here else _by_dask(function, jobs, workers, scheduler):
            bar.update()
            yield done


def _one_by_one(function: Callable, jobs: Iterable[tuple]) -> Iterator[tuple[tuple, float, Any]]:
    for given in jobs:
        yield given, *_timed(function, given)


def _timed(function: Callable, given: tuple) -> tuple[float, Any]:
    begun = time.monotonic()
    outcome = function(*given)
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
                f"The scheduler went away ({error}). What is finished stays on the disk: call again, and it goes on "
                "from there."
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
