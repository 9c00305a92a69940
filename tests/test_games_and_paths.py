"""Spellings of games, and files that are written whole or not at all."""

import os
from pathlib import Path

import pytest

from pretrainrl.errors import InputError, UnknownNameError
from pretrainrl.games import all_games, find_game
from pretrainrl.paths import atomic_path, writable_folder


@pytest.mark.parametrize(
    "name", ["ms_pacman", "mspacman", "MsPacman", "ALE/MsPacman-v5", "MsPacmanNoFrameskip-v4", "MsPacman-v4"]
)
def test_every_spelling_of_a_game(name: str):
    assert find_game(name).rom == "ms_pacman"


def test_unknown_games_get_a_suggestion():
    with pytest.raises(UnknownNameError, match="did you mean 'breakout'"):
        find_game("breackout")


def test_all_games_are_registered_environments():
    import ale_py  # noqa: F401  # registers them
    import gymnasium

    assert [game.rom for game in all_games().values() if game.env_id not in gymnasium.registry] == []


@pytest.mark.parametrize("name", ["combat", "joust", "maze_craze", "warlords"])
def test_games_for_two_are_refused_before_ale_ends_the_process(name: str):
    with pytest.raises(UnknownNameError, match="unknown game"):
        find_game(name)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_that_cannot_be_made(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write to"):
        writable_folder(tmp_path / "file" / "below")


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="reads the names of open files")
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_all_is_on_the_disk_before_it_is_renamed(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a machine that fails soon after could leave an empty file under the final name."""
    events: list[tuple[str, str]] = []
    sync, replace = os.fsync, Path.replace

    def fsync(descriptor: int) -> None:
        events.append(("sync", Path(f"/proc/self/fd/{descriptor}").readlink().name))
        sync(descriptor)

    def renaming(self: Path, target: Path) -> Path:
        events.append(("rename", target.name))
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", renaming)
    with atomic_path(tmp_path / "out") as temporary:
        if kind == "folder":
            (temporary / "inner").mkdir(parents=True)
            (temporary / "inner" / "file").write_text("content")
            (temporary / "link").symlink_to("nowhere")
        else:
            temporary.write_text("content")
    at = events.index(("rename", "out"))
    expected = {"file", "inner", temporary.name} if kind == "folder" else {temporary.name}
    assert {name for _, name in events[:at]} == expected
    assert events[at + 1 :] == [("sync", tmp_path.name)]
