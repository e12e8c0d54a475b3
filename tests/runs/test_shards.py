"""A shard is there whole or not at all, one process writes it, and what has become of it since is named."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from addends.errors import DataError
from addends.runs import shards

WANTED = {"weights": "a" * 64, "own_tokens": 10, "files": {"quality": ["held_out"]}}


def frame(step: int = 60, score: float = 1.0) -> pd.DataFrame:
    cells = {"run": "ora", "checkpoint": step, "set": "held_out", "metric": "chrf", "score": score}
    return pd.DataFrame([cells])


def record(step: int = 60) -> dict:
    return {"run": "ora", "checkpoint": step, **WANTED, "measured_on": {"processor": "one"}, "seconds": 2.5}


def write(folder: Path, step: int = 60, score: float = 1.0) -> Path:
    return shards.write(shards.begin(folder, step), {"quality": frame(step, score)}, record(step))


@pytest.fixture
def folder(tmp_path):
    """A run's work folder with one shard; its path has a space and letters beyond ASCII."""
    folder = tmp_path / "mes données" / "ora"
    write(folder)
    return folder


def files_under(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


# --- there, whole ---


def test_a_shard_reads_as_it_was_written(folder):
    assert shards.fault(folder, 60, WANTED) is None
    pd.testing.assert_frame_equal(shards.read(folder, 60, "quality"), frame(), check_dtype=False)
    (row,) = shards.manifest(folder).to_dict("records")
    assert (row["checkpoint"], row["weights"], row["processor"], row["seconds"]) == (60, "a" * 64, "one", 2.5)
    assert row["bytes"] == (folder / "measured" / "60" / "quality.parquet").stat().st_size


def test_a_shard_of_another_machine_is_as_good(folder):
    file = folder / "measured" / "60" / shards.RECORD
    file.write_text(json.dumps(json.loads(file.read_text()) | {"measured_on": {"processor": "another"}}))
    assert shards.fault(folder, 60, WANTED) is None
    assert shards.manifest(folder)["processor"].tolist() == ["another"]


def test_written_again_it_is_the_new_one_and_nothing_is_left_beside_it(folder):
    write(folder, score=2.0)
    assert shards.read(folder, 60, "quality")["score"].tolist() == [2.0]
    assert sorted(path.name for path in (folder / "measured").iterdir()) == ["60"]


def test_the_claim_is_one_processs_alone_and_ends_with_it(folder):
    context = multiprocessing.get_context("spawn")
    held, there = context.Event(), context.Queue()
    holder = context.Process(target=_hold, args=(folder, held, there))
    holder.start()
    assert there.get(timeout=60)
    with shards.claimed(folder, 60) as mine:
        assert not mine
    with shards.claimed(folder, 250) as mine:
        assert mine  # another shard
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    with shards.claimed(folder, 60) as mine:
        assert mine


def _hold(folder: Path, held, there) -> None:
    with shards.claimed(folder, 60) as mine:
        there.put(mine)
        held.wait(60)


def test_a_process_killed_while_writing_leaves_no_shard(tmp_path):
    """kill -9 between two tables: the shard is missing, its half is named, and the next writer clears it away."""
    script = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from addends import tables\n"
        "from tests.runs import test_shards as here\n"
        "whole = tables.write\n"
        "def dies(frame, path, table):\n"
        "    whole(frame, path, table); os.kill(os.getpid(), signal.SIGKILL)\n"
        "tables.write = dies\n"
        "here.write(Path(sys.argv[1]))\n"
    )
    folder = tmp_path / "ora"
    done = subprocess.run([sys.executable, "-c", script, str(folder)], cwd=Path(__file__).parents[2])
    assert done.returncode == -signal.SIGKILL
    found = shards.fault(folder, 60, WANTED)
    assert found.kind == "missing"
    assert "half written" in found.words
    write(folder)
    assert sorted(path.name for path in (folder / "measured").iterdir()) == ["60"]
    assert shards.fault(folder, 60, WANTED) is None


# --- what has become of it ---


def test_one_that_was_never_measured_is_missing(folder):
    assert shards.fault(folder, 250, WANTED) == shards.Fault("missing", "run 'ora', step 250 is not measured.")


@pytest.mark.parametrize("change", ["truncated", "one byte", "gone", "no record", "half a record", "no entries", "odd"])
def test_an_altered_shard_is_named(folder, change):
    shard = folder / "measured" / "60"
    file = shard / "quality.parquet"
    match change:
        case "truncated":
            file.write_bytes(file.read_bytes()[:-20])
        case "one byte":
            content = bytearray(file.read_bytes())
            content[40] ^= 1
            file.write_bytes(bytes(content))
        case "gone":
            file.unlink()
        case "no record":
            (shard / shards.RECORD).unlink()
        case "half a record":
            (shard / shards.RECORD).write_text('{"run": "ora"')
        case "no entries":
            (shard / shards.RECORD).write_text("{}")
        case "odd":
            (shard / shards.RECORD).write_text(json.dumps(shards.read_record(folder, 60) | {"files": ["quality"]}))
    found = shards.fault(folder, 60, WANTED)
    assert found.kind == "altered"
    assert "run 'ora', step 60" in found.words
    assert str(shard) in found.words
    if "record" in change or change in ("no entries", "odd"):
        assert shards.manifest(folder).empty


@pytest.mark.parametrize(("entry", "value"), [("weights", "b" * 64), ("own_tokens", 12), ("held_out_sha256", "c" * 64)])
def test_one_measured_otherwise_is_stale(folder, entry, value):
    found = shards.fault(folder, 60, WANTED | {entry: value})
    assert found.kind == "stale"
    assert f"was measured with {entry}=" in found.words


def test_a_shard_moved_to_another_step_is_stale(folder):
    (folder / "measured" / "60").rename(folder / "measured" / "250")
    assert shards.fault(folder, 250, WANTED).words.startswith(
        "run 'ora', step 250 was measured with checkpoint=60; now 250"
    )
    with pytest.raises(DataError, match=r"does not hold what was measured at step 250 of the run 'ora'"):
        shards.read(folder, 250, "quality")


@pytest.mark.parametrize(
    "more", [{"quality": ["held_out", "further"]}, {"quality": ["held_out"], "further": ["further"]}]
)
def test_a_suite_that_asks_for_more_has_more_to_measure(folder, more):
    found = shards.fault(folder, 60, WANTED | {"files": more})
    assert found.kind == "missing"
    assert "further" in found.words


# --- no room, no right ---


def test_a_full_disk_is_said_and_what_was_there_stays(folder):
    """A limit on the size of files stands for the disk: both end a write in the middle."""
    before = files_under(folder)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with pytest.raises(
            DataError, match=r"measured/250 could not be written \(.*\)\. Shards that are there are whole"
        ):
            write(folder, 250)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert files_under(folder) == before
    assert shards.fault(folder, 60, WANTED) is None
    write(folder, 250)


def test_a_read_only_folder_is_refused_before_anything_is_done(tmp_path, monkeypatch):
    access = os.access
    # The superuser may write anywhere, so the answer of the operating system is put in its mouth.
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path and access(path, mode))
    with pytest.raises(DataError, match=rf"{tmp_path}/new/work cannot be written to: {tmp_path} is read-only"):
        shards.refuse_read_only(tmp_path / "new" / "work")
    (tmp_path / "taken").write_text("")
    with pytest.raises(DataError, match="taken is no folder"):
        shards.refuse_read_only(tmp_path / "taken" / "work")
