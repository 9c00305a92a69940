"""Recordings of datasets, and the datasets that are built from them: the same, frame by frame, or an error and nothing."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import minari
import numpy as np
import pytest

from pretrainrl.cli.collect import collect
from pretrainrl.cli.datasets import build
from pretrainrl.data.emulator import Emulator
from pretrainrl.data.packing import PackedEpisode, content_sha256
from pretrainrl.data.recording import Recording
from pretrainrl.dataset_cards import RECORDINGS, RecordingCard
from pretrainrl.errors import CardError, DatasetError, InputError, PretrainRLError, UnknownNameError
from pretrainrl.integrations.minari import build_dataset, collect_dataset, open_dataset, write_recording
from pretrainrl.integrations.minari import recordings as module
from pretrainrl.runs.folder import fingerprint_of

ID = "pretrainrl/atari/breakout-random-v0"


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    monkeypatch.setenv("PRETRAINRL_HOME", str(tmp_path / "home"))
    return tmp_path / "datasets"


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, root: Path) -> RecordingCard:
    """The recording of a small dataset, registered; the dataset itself is gone."""
    collect_dataset("breakout", 600, n_envs=3, seed=1)
    card = write_recording(ID, tmp_path / "breakout-random-v0.rec")
    shutil.rmtree(root)
    monkeypatch.setattr(RECORDINGS, "_items", {card.name: card})
    return card


def content_of(name: str) -> str:
    """The fingerprint of what is in the dataset's file, not of what its metadata say."""
    return content_sha256(PackedEpisode.of(episode).sha256 for episode in open_dataset(name))


def left(tmp_path: Path) -> list[Path]:
    """What play has left, apart from the notes on which files have been checked."""
    files = [path for path in (tmp_path / "home").rglob("*") if path.is_file() and path.suffix != ".lock"]
    return [path for path in files if path.parent.name != "checked"]


@pytest.mark.parametrize("jobs", [1, 3])
def test_what_is_built_is_what_was_collected(tmp_path: Path, root: Path, jobs: int) -> None:
    collected = collect_dataset("breakout", 600, n_envs=3, seed=1)
    fingerprint = content_of(ID)
    assert collected.storage.metadata["content_sha256"] == fingerprint
    write_recording(ID, tmp_path / "a.rec")
    root.rename(tmp_path / "before")

    built = build_dataset(tmp_path / "a.rec", jobs=jobs)

    assert content_of(ID) == fingerprint
    before = minari.MinariDataset(tmp_path / "before" / ID / "data")
    for facts in ("content_sha256", "collection", "algorithm_name", "sticky_actions", "action_meanings"):
        assert built.storage.metadata[facts] == before.storage.metadata[facts]
    indices = range(len(built))
    for found, expected in zip(
        built.storage.get_episode_metadata(indices), before.storage.get_episode_metadata(indices), strict=True
    ):
        assert found == expected
    assert left(tmp_path) == []


def test_ram_is_built_too(tmp_path: Path, root: Path) -> None:
    before = collect_dataset("pong", 90, n_envs=2, ram=True)[1].infos["ram"]
    write_recording("pretrainrl/atari/pong-random-v0", tmp_path / "a.rec")
    shutil.rmtree(root)
    assert np.array_equal(build_dataset(tmp_path / "a.rec")[1].infos["ram"], before)


def test_agents_and_parts_of_what_they_play_are_recorded(tmp_path: Path, root: Path) -> None:
    """Lives lost, cut games, segments and --keep-every: all of it is in the actions."""
    collect(["breakout"], agent="ppo", steps=2048, n_envs=4, keep_every=2, recording=tmp_path)
    name = "pretrainrl/atari/breakout-ppo-v0"
    fingerprint = content_of(name)
    shutil.rmtree(root)
    build_dataset(tmp_path / "breakout-ppo-v0.rec", jobs=2)
    assert content_of(name) == fingerprint


def test_the_card_says_what_is_in_it(registered: RecordingCard, tmp_path: Path) -> None:
    recording = Recording.read(tmp_path / "breakout-random-v0.rec")
    whole = [episode.metadata["return"] for episode in recording.episodes if episode.metadata["ends_by"] == "game_over"]
    assert registered.returns is not None
    assert registered.returns.episodes == len(whole) > 0
    assert registered.returns.mean == pytest.approx(np.mean(whole), abs=1e-3)
    assert (registered.returns.least, registered.returns.greatest) == (min(whole), max(whole))
    # Breakout's random play scores 1.7 and its reference 96.23.
    assert registered.returns.normalized == pytest.approx((np.mean(whole) - 1.7) / (96.23 - 1.7), abs=1e-4)
    assert registered.transitions == 600
    assert RecordingCard.read(tmp_path / "breakout-random-v0.toml") == registered


def test_a_missing_dataset_is_built_when_it_is_opened(registered: RecordingCard, capfd: pytest.CaptureFixture[str]) -> None:
    dataset = open_dataset(ID)
    assert dataset.metadata["content_sha256"] == registered.content_sha256
    assert f"{ID}: played again" in " ".join(capfd.readouterr().err.split())
    open_dataset(ID)
    assert "played again" not in capfd.readouterr().err


def test_build_takes_patterns_and_skips_what_is_there(registered: RecordingCard, capsys: pytest.CaptureFixture[str]) -> None:
    build(["breakout-*"])
    assert f"{ID} 600 transitions" in " ".join(capsys.readouterr().out.split())
    build([ID, "*-random-v0"])
    assert "is there already" in capsys.readouterr().out
    with pytest.raises(UnknownNameError, match="breakout-random-v0"):
        build(["breakuot-random-v0"])


def test_what_a_kill_after_the_last_rename_left_is_swept(registered: RecordingCard, tmp_path: Path, root: Path) -> None:
    build([ID])
    remains = [root / ".write-0a1b2c3d", tmp_path / "home/recordings" / registered.content_sha256[:16]]
    for folder in remains:
        (folder / "new").mkdir(parents=True)
        folder.with_name(f"{folder.name}.lock").touch()
    (root / f".writing-{fingerprint_of(ID)}.lock").touch()
    build([ID])
    assert [path.name for path in root.iterdir() if path.name.startswith(".")] == []
    assert not remains[1].exists() and left(tmp_path) == []


def test_another_content_is_an_error_and_nothing_is_kept(registered: RecordingCard, tmp_path: Path, root: Path) -> None:
    recording = Recording.read(tmp_path / "breakout-random-v0.rec")
    other = Recording(**{**recording.__dict__, "content_sha256": "f" * 64})
    with pytest.raises(DatasetError, match=f"{'f' * 64}.*{registered.content_sha256}.*nothing is kept"):
        build_dataset(other)
    assert left(tmp_path) == []
    assert not (root / ID).exists()


def test_a_card_with_another_fingerprint_is_refused(
    registered: RecordingCard, monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    wrong = registered.model_copy(update={"content_sha256": "e" * 64})
    monkeypatch.setattr(RECORDINGS, "_items", {wrong.name: wrong})
    with pytest.raises(DatasetError, match=f"{'e' * 64}.*{registered.content_sha256}"):
        open_dataset(ID)
    assert not root.exists()


def test_a_file_with_another_digest_is_refused(registered: RecordingCard, tmp_path: Path) -> None:
    path = tmp_path / "breakout-random-v0.rec"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(DatasetError, match="sha256"):
        open_dataset(ID)


def test_too_little_disk_is_told_before_any_play(
    registered: RecordingCard, monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    usage = shutil.disk_usage(root.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=100_000))
    monkeypatch.setattr(module, "_play", None)
    with pytest.raises(InputError, match=r"needs 0\.2 MB, and 0\.1 MB are free"):
        build_dataset(ID)


def test_a_killed_build_goes_on_where_it_was(
    registered: RecordingCard, tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = f"from pretrainrl.integrations.minari import build_dataset; build_dataset({registered.sources[0]!r}, jobs=1)"
    process = subprocess.Popen([sys.executable, "-c", code], env=os.environ)
    folder = tmp_path / "home" / "recordings" / registered.content_sha256[:16]
    deadline = time.monotonic() + 120
    while not list(folder.glob("episode-*.npz")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.wait()
    played = {path: path.stat().st_mtime_ns for path in folder.glob("episode-*.npz")}
    assert played
    assert not (root / ID).exists()
    after: dict[Path, int] = {}
    play = module._play

    def look(*arguments: Any) -> None:
        play(*arguments)
        after.update({path: path.stat().st_mtime_ns for path in played if path.exists()})

    monkeypatch.setattr(module, "_play", look)
    build_dataset(ID)
    assert after == played
    assert content_of(ID) == registered.content_sha256
    assert left(tmp_path) == []


def test_of_two_that_want_it_at_once_one_plays(registered: RecordingCard, tmp_path: Path, root: Path) -> None:
    code = f"from pretrainrl.integrations.minari import build_dataset; print(build_dataset({registered.sources[0]!r}, jobs=1))"
    both = [subprocess.Popen([sys.executable, "-c", code], env=os.environ) for _ in range(2)]
    assert [process.wait(timeout=300) for process in both] == [0, 0]
    assert content_of(ID) == registered.content_sha256
    assert left(tmp_path) == []


def killed_share(*_: object) -> str:
    """Takes the place of playing; must be importable by other processes."""
    os.kill(os.getpid(), signal.SIGKILL)
    return ""


def test_a_worker_that_dies_is_told(registered: RecordingCard, monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    monkeypatch.setattr(module, "play_share", killed_share)
    with pytest.raises(PretrainRLError, match="was killed"):
        build_dataset(ID, jobs=2)
    assert not (root / ID).exists()


def test_a_script_without_a_guard_builds_in_several_processes(registered: RecordingCard, tmp_path: Path) -> None:
    """What it says at its top is not said once more by every process."""
    script = tmp_path / "script.py"
    build = f"build_dataset({registered.sources[0]!r}, jobs=2)"
    script.write_text(f"print('once')\nfrom pretrainrl.integrations.minari import build_dataset\n{build}\n")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, env=os.environ)
    assert (done.returncode, done.stdout) == (0, "once\n"), done.stderr
    assert content_of(ID) == registered.content_sha256


def test_only_what_collect_has_played_can_be_recorded(tmp_path: Path) -> None:
    from dataclasses import replace

    from pretrainrl.data.collect import collect_episodes
    from pretrainrl.integrations.minari import write_dataset

    name = "pretrainrl/atari/pong-foreign-v0"
    write_dataset(name, (replace(episode, infos={}) for episode in collect_episodes("pong", 30, n_envs=1)))
    with pytest.raises(DatasetError, match=r"how .* was played is not recorded"):
        write_recording(name, tmp_path / "a.rec")
    assert not (tmp_path / "a.rec").exists()


def test_the_place_of_a_recording_is_checked_before_any_play(tmp_path: Path, root: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        collect(["pong"], steps=50, recording=tmp_path / "file")
    with pytest.raises(InputError, match="name a folder"):
        collect(["pong", "breakout"], steps=50, recording=tmp_path / "a.rec")
    assert not root.exists()


@pytest.mark.parametrize("name", RECORDINGS.names())
def test_registered_recordings_are_what_their_cards_say(name: str) -> None:
    card = RECORDINGS.get(name)
    recording = module.registered_recording(name)
    game = recording.check_game()
    assert recording.dataset_id == f"pretrainrl/atari/{name}"
    assert name.startswith(game.slug)
    assert recording.transitions == card.transitions
    assert module.returns_of(recording) == card.returns
    assert card.bytes <= 0.8 * card.transitions  # five bits of action and one of delay at worst


@pytest.mark.parametrize("name", RECORDINGS.names())
def test_registered_recordings_play_as_recorded(name: str) -> None:
    """The shortest episode of each; the heavy test below plays all of them."""
    from pretrainrl.data.recording import replay

    recording = module.registered_recording(name)
    shortest = min(recording.episodes, key=len)
    episode = replay(Emulator(recording.check_game()), recording.game, shortest)
    assert episode.rewards.sum() == pytest.approx(shortest.metadata["return"])


@pytest.mark.heavy
@pytest.mark.parametrize("name", RECORDINGS.names())
def test_registered_recordings_give_the_fingerprint_on_their_card(name: str) -> None:
    dataset = build_dataset(f"pretrainrl/atari/{name}")
    assert dataset.storage.metadata["content_sha256"] == RECORDINGS.get(name).content_sha256


def test_a_recording_card_is_strict(tmp_path: Path, registered: RecordingCard) -> None:
    (tmp_path / "bad.toml").write_text(registered.to_toml().replace("transitions", "transition"))
    with pytest.raises(CardError, match="did you mean 'transitions'"):
        RecordingCard.read(tmp_path / "bad.toml")
