"""Locks name their owners and end with them; scratch folders of the dead are cleared away, those of the living stay."""

import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from pretrainrl.errors import InputError
from pretrainrl.runs.lock import exclusive, lock_owner, lock_path, locked, scratch_folder

WAITING = """
import sys
from pathlib import Path
from pretrainrl.runs.lock import scratch_folder
with scratch_folder(Path(sys.argv[1]), ".make-") as folder:
    (folder / "half").write_text("written")
    print("ready", flush=True)
    sys.stdin.read()
"""


HOLDING = """
import sys
from pathlib import Path
from pretrainrl.runs.lock import locked
with locked(Path(sys.argv[1])):
    print("ready", flush=True)
    sys.stdin.read()
"""


def start(script: str, path: Path) -> "subprocess.Popen[str]":
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = subprocess.Popen([sys.executable, "-c", script, str(path)], **pipes, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def test_a_lock_names_its_owner_and_ends_with_it(tmp_path: Path) -> None:
    path = lock_path(tmp_path / "cache")
    process = start(HOLDING, path)
    with locked(path, wait=False) as free:
        assert not free
    assert lock_owner(path).startswith(f"process {process.pid} on ")
    expected = rf"the cache is in use by process {process.pid} on .*; wait until it has ended"
    with pytest.raises(InputError, match=expected), exclusive(path, "the cache"):
        pytest.fail("two processes hold the lock")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with locked(path, wait=False) as free:
        assert free
    assert list(tmp_path.iterdir()) == []


def test_who_waits_gets_the_lock_of_the_dead(tmp_path: Path) -> None:
    process = start(HOLDING, tmp_path / "lock")
    threading.Timer(0.5, process.kill).start()
    with locked(tmp_path / "lock") as free:
        assert free and process.wait(10) == -signal.SIGKILL
    process.communicate()


def test_an_error_releases_the_lock(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), exclusive(tmp_path / "lock", "it"):
        raise ZeroDivisionError
    with exclusive(tmp_path / "lock", "it"):
        assert lock_owner(tmp_path / "lock").startswith("process ")
    assert lock_owner(tmp_path / "lock") == "another process"


@pytest.mark.parametrize("error", [None, RuntimeError, KeyboardInterrupt])
def test_nothing_stays(tmp_path: Path, error: type[BaseException] | None) -> None:
    def use() -> None:
        with scratch_folder(tmp_path, ".make-") as folder:
            assert folder.parent == tmp_path
            assert folder.name.startswith(".make-")
            (folder / "file").touch()
            if error is not None:
                raise error

    if error is None:
        use()
    else:
        with pytest.raises(error):
            use()
    assert list(tmp_path.iterdir()) == []


def test_only_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".make-of-something-else").mkdir()
    processes = [start(WAITING, tmp_path) for _ in range(2)]
    assert len(list(tmp_path.glob(".make-*/half"))) == 2
    dead, alive = processes
    dead.send_signal(signal.SIGKILL)
    dead.communicate()
    with scratch_folder(tmp_path, ".make-"):
        assert len(list(tmp_path.glob(".make-*/half"))) == 1
    alive.communicate("")
    assert alive.returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == [".make-of-something-else"]
