"""Scratch folders: gone at the end, and those of the dead are cleared away while those of the living stay."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pretrainrl.runs.lock import scratch_folder

WAITING = """
import sys
from pathlib import Path
from pretrainrl.runs.lock import scratch_folder
with scratch_folder(Path(sys.argv[1]), ".make-") as folder:
    (folder / "half").write_text("written")
    print("ready", flush=True)
    sys.stdin.read()
"""


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
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    processes = [subprocess.Popen([sys.executable, "-c", WAITING, str(tmp_path)], **pipes, text=True) for _ in range(2)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    assert len(list(tmp_path.glob(".make-*/half"))) == 2
    dead, alive = processes
    dead.send_signal(signal.SIGKILL)
    dead.communicate()
    with scratch_folder(tmp_path, ".make-"):
        assert len(list(tmp_path.glob(".make-*/half"))) == 1
    alive.communicate("")
    assert alive.returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == [".make-of-something-else"]
