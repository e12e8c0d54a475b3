"""Whoever does the jobs, and whoever dies at it, the tables are the same."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from pathlib import Path

import pandas as pd
import pytest

from addends import tables
from addends.errors import DataError, InputError
from addends.runs import job, scheduling, shards, workfolder
from tests.runs.test_job import SUITE, TABLES, files_under

NAMES = ["ora-a", "ora-b"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A work folder in which both runs are trained and nothing is measured."""
    work = tmp_path_factory.mktemp("trained")
    scheduling.train(SUITE, NAMES, work, cpu=True)
    return work


@pytest.fixture(scope="module")
def undisturbed(trained, tmp_path_factory) -> Path:
    """The tables that one process writes, one job after the other."""
    folder = tmp_path_factory.mktemp("undisturbed")
    shutil.copytree(trained, folder / "work")
    scheduling.measure(SUITE, NAMES, folder / "work", folder / "data", cpu=True)
    return folder / "data"


@pytest.fixture
def work(trained, tmp_path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "work"))


def assert_same_tables(data: Path, expected: Path) -> None:
    """Identical keys, equal values, nothing doubled, nothing lost."""
    assert files_under(data) == files_under(expected)
    for table in (*TABLES, "sentences"):
        found = tables.read_suite(data / "tiny", table)
        assert not found.duplicated(tables.key(table)).any()
        pd.testing.assert_frame_equal(found, tables.read_suite(expected / "tiny", table))


def test_one_process_logs_what_it_did(trained, undisturbed):
    lines = (trained / "tiny" / "log.txt").read_text().splitlines()
    assert [line.split(" trained ")[1].split(" in ")[0] for line in lines] == NAMES
    log = (undisturbed.parent / "work" / "tiny" / "log.txt").read_text()
    assert log.count("measured ora-a at step") == log.count("measured ora-b at step") == 3
    assert log.count("wrote the tables of") == 2


@pytest.mark.slow
def test_a_worker_killed_in_the_middle_changes_nothing(work, undisturbed, tmp_path):
    """Two worker processes measure; one is killed by SIGKILL while it has claimed a shard."""
    distributed = pytest.importorskip("distributed")
    killed: list[int] = []

    def kill() -> None:
        # A holder of a claim makes a folder that bears its process id; it is killed while that is there.
        while not killed:
            for part in (work / "tiny").glob("*/measured/.*.part"):
                with_pid = int(part.name.split(".")[2])
                if with_pid in pids and part.exists():
                    os.kill(with_pid, signal.SIGKILL)
                    killed.append(with_pid)
                    return
            time.sleep(0.001)

    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, memory_limit=0, silence_logs=50
    ) as cluster:
        pids = {worker.pid for worker in cluster.workers.values()}
        assert len(pids) == 2
        killer = threading.Thread(target=kill, daemon=True)
        killer.start()
        scheduling.measure(SUITE, NAMES, work, tmp_path / "data", scheduler=cluster.scheduler_address, cpu=True)
        killer.join(timeout=10)
    assert len(killed) == 1
    assert_same_tables(tmp_path / "data", undisturbed)
    for name in NAMES:
        folder = workfolder.of_run(SUITE, name, work)
        assert shards.manifest(folder)["checkpoint"].tolist() == list(SUITE.recipe.checkpoints)
        assert not list(folder.glob("measured/.*.part"))


@pytest.mark.slow
def test_workers_of_this_machine_train_and_measure_the_same(trained, undisturbed, tmp_path):
    pytest.importorskip("distributed")
    scheduling.train(SUITE, NAMES, tmp_path / "work", workers=2, cpu=True)
    scheduling.measure(SUITE, NAMES, tmp_path / "work", tmp_path / "data", workers=2, cpu=True)
    assert_same_tables(tmp_path / "data", undisturbed)


def test_a_shard_that_another_process_has_claimed_is_waited_for(work, undisturbed, tmp_path, monkeypatch):
    """While one process holds a claim, the other measures the rest; then it takes up the one that was left."""
    folder, asked = workfolder.of_run(SUITE, "ora-a", work), []
    measure, monkeypatched = job.measure, shards.claimed(folder, 8)
    assert monkeypatched.__enter__()

    def watched(suite, name, step, *rest):
        outcome = measure(suite, name, step, *rest)
        asked.append((step, outcome))
        if len(asked) == 4:  # the second time round
            monkeypatched.__exit__(None, None, None)
        return outcome

    monkeypatch.setattr(job, "measure", watched)
    monkeypatch.setattr(scheduling, "_WAIT", 0.01)
    scheduling.measure(SUITE, ["ora-a"], work, tmp_path / "data", cpu=True)
    assert asked == [(4, "measured"), (8, "claimed"), (12, "measured"), (8, "claimed"), (8, "measured")]
    (row,) = tables.read_suite(tmp_path / "data" / "tiny", "runs").to_dict("records")
    assert row["run"] == "ora-a"


@pytest.mark.slow
def test_a_scheduler_that_goes_away_is_said_and_what_is_done_stays(work, undisturbed, tmp_path):
    distributed = pytest.importorskip("distributed")
    cluster = distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, dashboard_address=None, memory_limit=0, silence_logs=50
    )

    def close() -> None:
        while not list((work / "tiny").glob(f"*/measured/*/{shards.RECORD}")):
            time.sleep(0.005)
        cluster.close()

    closer = threading.Thread(target=close, daemon=True)
    closer.start()
    with pytest.raises(DataError, match=r"The scheduler went away.*stays on the disk: call again"):
        scheduling.measure(SUITE, NAMES, work, tmp_path / "data", scheduler=cluster.scheduler_address, cpu=True)
    closer.join(timeout=60)
    scheduling.measure(SUITE, NAMES, work, tmp_path / "data", cpu=True)
    assert_same_tables(tmp_path / "data", undisturbed)


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "nonsense"])
def test_where_no_scheduler_answers_it_is_said(work, tmp_path, monkeypatch, address):
    pytest.importorskip("distributed")
    monkeypatch.setattr(scheduling, "_PATIENCE", "1s")
    with pytest.raises(InputError, match=rf"scheduler='{address}': no Dask scheduler answers there"):
        scheduling.measure(SUITE, NAMES, work, tmp_path / "data", scheduler=address, cpu=True)


def test_an_error_in_a_worker_is_the_same_error(work, tmp_path):
    pytest.importorskip("distributed")
    weights = work / "tiny" / "ora-b" / "checkpoint-8" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    with pytest.raises(DataError, match=r"checkpoint-8/model\.safetensors is not the file that was saved at step 8"):
        scheduling.measure(SUITE, NAMES, work, tmp_path / "data", workers=2, cpu=True)


def test_a_file_error_of_a_job_is_not_the_schedulers():
    def fails(*given):
        raise PermissionError(13, "Permission denied", "run.json")

    with pytest.raises(DataError, match=r"The run 'a' of the suite 'tiny' cannot go on: .*run\.json"):
        scheduling._timed(fails, (SUITE, "a"))
