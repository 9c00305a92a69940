"""Run folders: what may begin, what may go on, and who may work in them."""

import multiprocessing
import os
import platform
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pretrainrl.cards import Card
from pretrainrl.errors import DatasetError, InputError
from pretrainrl.runs.folder import CONFIG, RunFolder, exclusive_folder, fingerprint_of, require_same

FORK = multiprocessing.get_context("fork")


class Optimizer(Card):
    lr: float
    steps: int


class Settings(Card):
    seed: int
    games: tuple[str, ...]
    optimizer: Optimizer


def settings(**changes: object) -> Settings:
    table: dict[str, Any] = {"seed": 0, "games": ["pong"], "optimizer": {"lr": 0.1, "steps": 10}, **changes}
    return Settings.parse(table, "a test")


def begin(path: Path, asked: Settings) -> None:
    with RunFolder(path, Settings, resume=False).opened(asked):
        pass


def test_a_run_begins_once(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run", Settings, resume=True)  # there is nothing to go on with yet
    assert folder.before is None
    with folder.opened(settings()):
        assert Settings.read(tmp_path / "run" / CONFIG) == settings()
    assert [path.name for path in (tmp_path / "run").iterdir()] == [CONFIG]
    with pytest.raises(InputError, match="is not empty; go on with that run by --resume, or choose another folder with --out"):
        RunFolder(tmp_path / "run", Settings, resume=False)
    assert RunFolder(tmp_path / "run", Settings, resume=True).before == settings()


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="holds no run to go on with: no card at"):
        RunFolder(tmp_path, Settings, resume=True)
    with pytest.raises(InputError, match="is a file"):
        RunFolder(tmp_path / "notes.txt", Settings, resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_every_setting_that_has_changed_is_named(tmp_path: Path) -> None:
    begin(tmp_path / "run", settings())
    folder = RunFolder(tmp_path / "run", Settings, resume=True)
    folder.check(settings())
    with pytest.raises(InputError) as caught:
        folder.check(settings(games=["pong", "boxing"], optimizer={"lr": 0.1, "steps": 20}))
    assert str(caught.value) == (
        f"{tmp_path / 'run'} is of other settings: games was ['pong'] and is now ['pong', 'boxing']; "
        "optimizer.steps was 10 and is now 20; choose another folder with --out"
    )


def test_a_setting_that_is_missing_has_changed() -> None:
    require_same({"a": 1, "b": {}}, {"a": 1}, "it", "begin anew")
    with pytest.raises(DatasetError, match=r"^it is of other settings: b was 2 and is now None; begin anew$"):
        require_same({"a": 1}, {"a": 1, "b": 2}, "it", "begin anew", DatasetError)


def test_a_folder_in_which_a_process_works_is_refused(tmp_path: Path) -> None:
    working, done = FORK.Event(), FORK.Event()

    def work() -> None:
        with RunFolder(tmp_path, Settings, resume=False).opened(settings()):
            working.set()
            done.wait(60)

    process = FORK.Process(target=work)
    process.start()
    assert working.wait(60)
    folder = RunFolder(tmp_path, Settings, resume=True)
    expected = f"{tmp_path} is in use by process {process.pid} on {platform.node()}; wait until it has ended, or end it"
    with pytest.raises(InputError, match=expected), folder.opened(settings()):
        pass
    done.set()
    process.join()
    with folder.opened(settings()):
        pass


def test_a_dead_process_is_no_obstacle(tmp_path: Path) -> None:
    """Not even one that had made the folder and nothing in it."""
    code = "import os, sys; from pathlib import Path; from pretrainrl.runs.lock import exclusive\n"
    code += "with exclusive(Path(sys.argv[1]) / '.lock', 'it'): os.kill(os.getpid(), 9)"
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    begin(tmp_path, settings())
    assert [path.name for path in tmp_path.iterdir()] == [CONFIG]


def test_of_two_that_begin_one_is_refused(tmp_path: Path) -> None:
    """Both have seen an empty folder; the second comes when the first has ended."""
    first, second = (RunFolder(tmp_path, Settings, resume=False) for _ in range(2))
    with first.opened(settings()):
        pass
    with pytest.raises(InputError, match="is not empty"), second.opened(settings(seed=1)):
        pass
    assert Settings.read(tmp_path / CONFIG).seed == 0


def test_what_killed_processes_have_left_is_removed(tmp_path: Path) -> None:
    """A process that was killed while it wrote the settings has begun nothing."""
    begun = tmp_path / ".config.toml.0123abcd.tmp"
    begun.write_text("half")
    begin(tmp_path, settings())
    assert [path.name for path in tmp_path.iterdir()] == [CONFIG]
    for name in ("metrics.csv", "checkpoints/step_0000000003", "figures/a.png"):
        left = (tmp_path / name).with_name(f".{Path(name).name}.0123abcd.tmp")
        left.mkdir(parents=True)
        (left / "half").write_text("written")
    (tmp_path / ".mine.tmp").write_text("mine")
    with RunFolder(tmp_path, Settings, resume=True).opened(settings()):
        assert {path.name for path in tmp_path.rglob("*.tmp")} == {".mine.tmp"}


def test_an_output_has_one_writer(tmp_path: Path) -> None:
    expected = f"is in use by process {os.getpid()}"
    with exclusive_folder(tmp_path), pytest.raises(InputError, match=expected), exclusive_folder(tmp_path):
        pytest.fail("two write at the same time")
    assert list(tmp_path.iterdir()) == []


def test_fingerprints_tell_content_apart() -> None:
    assert fingerprint_of("a", {"b": 1, "c": 2}) == fingerprint_of("a", {"c": 2, "b": 1})
    assert len({fingerprint_of("a", 1), fingerprint_of("a", 2), fingerprint_of(1, "a"), fingerprint_of("a", [1])}) == 4
    assert len(fingerprint_of()) == 16 and os.sep not in fingerprint_of()
