"""Checkpoints: whole or not at all, found damaged, and the one before stays."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pretrainrl.errors import InputError
from pretrainrl.runs.checkpoints import CHECKSUMS, Checkpoints, check_folder, checked_folder

CONTENT = bytes(range(256)) * 8


def write(content: bytes = CONTENT) -> Callable[[Path], Any]:
    return lambda folder: (folder / "state").write_bytes(content)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    found = Checkpoints(tmp_path / "checkpoints", keep=2)
    assert found.latest() is None
    for step in (8, 9, 10):
        found.save(step, write())
    return found


def test_the_newest_are_kept(checkpoints: Checkpoints) -> None:
    assert names(checkpoints.folder) == ["step_0000000009", "step_0000000010"]
    latest = checkpoints.latest()
    assert latest is not None and latest.name == "step_0000000010"
    assert (latest / "state").read_bytes() == CONTENT
    checkpoints.clear()
    assert checkpoints.latest() is None


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), RuntimeError("no")])
def test_those_before_stay_when_writing_fails(checkpoints: Checkpoints, error: BaseException) -> None:
    def fail(folder: Path) -> None:
        (folder / "state").write_bytes(CONTENT[:100])
        raise error

    with pytest.raises(InputError if isinstance(error, OSError) else type(error)) as caught:
        checkpoints.save(11, fail)
    if isinstance(error, OSError):
        assert "No space left on device; what was there before is unchanged" in str(caught.value)
    assert names(checkpoints.folder) == ["step_0000000009", "step_0000000010"]
    checkpoints.latest()


@pytest.mark.parametrize("damage", ["truncated", "one bit", "missing", "no checksums", "half of the checksums"])
def test_damage_is_found(checkpoints: Checkpoints, damage: str) -> None:
    newest = checkpoints.folder / "step_0000000010"
    file = newest / (CHECKSUMS if "checksums" in damage else "state")
    content = bytearray(file.read_bytes())
    if damage in ("truncated", "half of the checksums"):
        file.write_bytes(content[: len(content) // 2])
    elif damage == "one bit":
        content[1000] ^= 1
        file.write_bytes(content)
    else:
        file.unlink()
    with pytest.raises(InputError, match=r"step_0000000010 is damaged \(.+\); delete it to go on from step_0000000009$"):
        checkpoints.latest()
    shutil.rmtree(newest)
    latest = checkpoints.latest()
    assert latest is not None and latest.name == "step_0000000009"


def test_the_only_one_is_told_apart(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(0, write())
    (tmp_path / "step_0000000000" / "state").write_bytes(b"")
    with pytest.raises(InputError, match=r"state is not what was written.*delete it to go on from the beginning"):
        checkpoints.latest()


def test_what_a_killed_process_left_is_removed(checkpoints: Checkpoints) -> None:
    (checkpoints.folder / ".step_0000000011.0123abcd.tmp").mkdir()
    for mine in ("step_0000000009 copy", "notes"):  # somebody else's
        (checkpoints.folder / mine).mkdir()
    checkpoints.save(12, write())
    assert names(checkpoints.folder) == ["notes", "step_0000000009 copy", "step_0000000010", "step_0000000012"]


def test_files_that_grow_are_brought_back(tmp_path: Path) -> None:
    rows, best = tmp_path / "rows.csv", tmp_path / "best.zip"
    checkpoints = Checkpoints(tmp_path / "checkpoints", files=[rows, best])
    rows.write_text("1,2\n")
    checkpoints.save(1, write())
    rows.write_text("1,9\n3,4\n")
    best.write_text("later")
    checkpoints.restore(checkpoints.latest())
    assert rows.read_text() == "1,2\n" and not best.exists()
    checkpoints.restore(None)
    assert not rows.exists()


def test_a_folder_within_may_be_removed(tmp_path: Path) -> None:
    with checked_folder(tmp_path / "outer") as outer:
        write()(outer)
        with checked_folder(outer / "inner") as inner:
            write()(inner)
    check_folder(tmp_path / "outer" / "inner", "")
    shutil.rmtree(tmp_path / "outer" / "inner")
    check_folder(tmp_path / "outer", "")
