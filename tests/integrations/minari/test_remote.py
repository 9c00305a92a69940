"""Upload and download: through Minari's own client, with namespaces, whole or not at all."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import minari
import numpy as np
import pytest
from dqn_shards import numbered
from fake_hub import FakeHub
from huggingface_hub import DatasetCard

from pretrainrl.dataset_cards import RECORDINGS, RecordingCard
from pretrainrl.errors import DatasetError, InputError
from pretrainrl.integrations.minari import (
    collect_dataset,
    download_dataset,
    local_ids,
    open_dataset,
    upload_dataset,
    upload_recording,
    write_dataset,
)

NAME, OTHER = "pretrainrl/atari/pong-random-v0", "pretrainrl/atari/pong-mine-v1"
REMOTE = "hf://someone"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "here"))
    monkeypatch.delenv("MINARI_REMOTE", raising=False)
    return FakeHub.install(tmp_path, monkeypatch)


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Go to another machine, whose root of datasets is not there yet."""

    def go() -> Path:
        monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "there"))
        return tmp_path / "there"

    return go


def visible(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def test_round_trip(hub: FakeHub, elsewhere: Any, tmp_path: Path) -> None:
    episodes = numbered([5, 7])
    write_dataset(NAME, episodes)
    before = visible(tmp_path / "here")
    upload_dataset(NAME, remote=REMOTE, token="secret")
    assert visible(tmp_path / "here") == before
    assert "secret" in hub.tokens
    root = elsewhere()
    downloaded = download_dataset(NAME, remote=REMOTE)
    assert downloaded.total_steps == 12
    for ours, theirs in zip(episodes, minari.load_dataset(NAME).iterate_episodes(), strict=True):
        assert np.array_equal(ours.frames, theirs.observations)
        assert np.array_equal(ours.actions, theirs.actions)
    assert [episode.metadata["ends_by"] for episode in open_dataset(NAME)] == ["game_over", "game_over"]
    for file in ("main_data.hdf5", "metadata.json"):
        sent = hub.files()[f"someone/pretrainrl/atari/pong-random-v0/data/{file}"]
        assert (root / NAME / "data" / file).read_bytes() == sent == (tmp_path / "here" / NAME / "data" / file).read_bytes()
    assert "pretrainrl/atari" in minari.namespace.list_local_namespaces()
    assert [path.name for path in root.iterdir()] == ["pretrainrl"]
    assert "MINARI_REMOTE" not in os.environ


def test_what_lies_beside_a_dataset_stays_there(hub: FakeHub, tmp_path: Path) -> None:
    write_dataset(NAME, numbered([5]))
    notes = {name: tmp_path / "here" / NAME / name for name in ("README.md", "SHA256SUMS", "data/.DS_Store")}
    for name, path in notes.items():
        path.write_text(f"my own {name}")
    upload_dataset(NAME, remote=REMOTE)
    assert {name: path.read_text() for name, path in notes.items()} == {name: f"my own {name}" for name in notes}
    sent = hub.files()
    assert sent["someone/pretrainrl/atari/pong-random-v0/README.md"].startswith(b"---")
    assert not [name for name in sent if name.endswith(".DS_Store")]


def test_the_hub_lists_and_describes_what_is_there(hub: FakeHub) -> None:
    for name in (NAME, OTHER):
        write_dataset(name, numbered([5]))
        upload_dataset(name, remote=REMOTE)
    listed = hub.listed("someone/pretrainrl")
    assert sorted(listed["datasets"]) == sorted([NAME, OTHER])
    assert listed["namespaces"] == ["pretrainrl/atari"]
    files = hub.files()
    card = DatasetCard(files["someone/pretrainrl/atari/pong-random-v0/README.md"].decode())
    assert card.data.to_dict()["license"] == "mit"
    assert card.data.to_dict()["task_categories"] == ["reinforcement-learning"]
    assert "MINARI_REMOTE=hf://someone minari download pretrainrl/atari/pong-random-v0" in card.text
    index = DatasetCard(files["someone/pretrainrl/README.md"].decode())
    assert index.data.to_dict()["size_categories"] == ["n<1K"]
    assert f"[`{NAME}`](atari/pong-random-v0/README.md)" in index.text
    assert f"[`{OTHER}`](atari/pong-mine-v1/README.md)" in index.text


def test_plain_minari_downloads_it(hub: FakeHub, elsewhere: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    write_dataset(NAME, numbered([5]))
    upload_dataset(NAME, remote=REMOTE)
    elsewhere()
    monkeypatch.setenv("MINARI_REMOTE", REMOTE)
    assert list(minari.list_remote_datasets(prefix="pretrainrl/atari")) == [NAME]
    assert minari.load_dataset(NAME, download=True).total_steps == 5


def test_remote_of_the_environment(hub: FakeHub, elsewhere: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    write_dataset(NAME, numbered([5]))
    with pytest.raises(InputError, match="say which remote"):
        upload_dataset(NAME)
    monkeypatch.setenv("MINARI_REMOTE", REMOTE)
    upload_dataset(NAME)
    elsewhere()
    download_dataset(NAME)
    assert os.environ["MINARI_REMOTE"] == REMOTE


@pytest.mark.parametrize("remote", ["someone", "hf://", "hf://a/b", "s3://bucket"])
def test_malformed_remotes(hub: FakeHub, remote: str) -> None:
    write_dataset(NAME, numbered([5]))
    with pytest.raises(InputError, match="a remote looks like hf://<organization>"):
        upload_dataset(NAME, remote=remote)


def test_what_is_published_stays_as_it_is(hub: FakeHub) -> None:
    write_dataset(NAME, numbered([5]))
    upload_dataset(NAME, remote=REMOTE)
    before = hub.files()
    write_dataset(NAME, numbered([6]), overwrite=True)
    with pytest.raises(DatasetError, match="take another version"):
        upload_dataset(NAME, remote=REMOTE)
    assert hub.files() == before


def test_what_is_damaged_is_not_uploaded(hub: FakeHub, tmp_path: Path) -> None:
    write_dataset(NAME, numbered([5]))
    path = tmp_path / "here" / NAME / "data" / "main_data.hdf5"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DatasetError, match="cannot be read"):
        upload_dataset(NAME, remote=REMOTE)
    assert hub.files() == {}


@pytest.mark.parametrize("files", [0, 1, 2, 3])
def test_an_interrupted_download_leaves_nothing(hub: FakeHub, elsewhere: Any, files: int) -> None:
    write_dataset(NAME, numbered([5]))
    upload_dataset(NAME, remote=REMOTE)
    root = elsewhere()
    hub.fail_after = files
    with pytest.raises(DatasetError, match=f"{NAME} was not downloaded from {REMOTE} .*the line is dead"):
        download_dataset(NAME, remote=REMOTE)
    assert local_ids() == []
    assert list(root.iterdir()) == []
    hub.fail_after = None
    download_dataset(NAME, remote=REMOTE)
    assert local_ids() == [NAME]


@pytest.mark.parametrize("name", ["main_data.hdf5", "metadata.json"])
def test_a_flipped_bit_is_noticed(hub: FakeHub, elsewhere: Any, name: str) -> None:
    write_dataset(NAME, numbered([5]))
    upload_dataset(NAME, remote=REMOTE)
    path = hub.store / "someone" / NAME / "data" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    elsewhere()
    with pytest.raises(DatasetError, match="was not downloaded"):
        download_dataset(NAME, remote=REMOTE)
    assert local_ids() == []


def test_missing_and_taken_ids(hub: FakeHub, elsewhere: Any) -> None:
    write_dataset(NAME, numbered([5]))
    with pytest.raises(DatasetError, match="there: none"):
        download_dataset(OTHER, remote=REMOTE)
    upload_dataset(NAME, remote=REMOTE)
    with pytest.raises(DatasetError, match="exists at"):
        download_dataset(NAME, remote=REMOTE)
    elsewhere()
    with pytest.raises(DatasetError, match=f"did you mean {NAME}"):
        download_dataset("pretrainrl/atari/pong-random-v1", remote=REMOTE)
    with pytest.raises(InputError, match="is not a dataset id"):
        download_dataset("pong", remote=REMOTE)


def test_without_the_hub_s_client() -> None:
    script = f"""
import sys
sys.modules["huggingface_hub"] = None
from pretrainrl.errors import MissingExtraError
from pretrainrl.integrations.minari import download_dataset
try:
    download_dataset({NAME!r}, remote={REMOTE!r})
except MissingExtraError as error:
    print(error)
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert 'pip install "pretrainrl[hub]"' in run.stdout, run.stderr


def test_a_recording_goes_in_place_of_the_frames(
    hub: FakeHub, elsewhere: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collected = collect_dataset("pong", 60, n_envs=2)
    card = upload_recording(NAME, remote=REMOTE, token="secret")
    assert card.sources == ("hf://datasets/someone/pretrainrl/recordings/pong-random-v0.rec@main",)
    files = hub.files()
    assert sorted(files) == [f"someone/pretrainrl/recordings/pong-random-v0.{end}" for end in ("rec", "toml")]
    assert len(files["someone/pretrainrl/recordings/pong-random-v0.rec"]) == card.bytes
    with pytest.raises(DatasetError, match="is in someone/pretrainrl already"):
        upload_recording(NAME, remote=REMOTE)

    def download(revision: str, **where: Any) -> str:
        assert (revision, where["repo_type"]) == ("main", "dataset")
        return hub.hf_hub_download(**where)

    elsewhere()
    monkeypatch.setenv("PRETRAINRL_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    (tmp_path / "card.toml").write_bytes(files["someone/pretrainrl/recordings/pong-random-v0.toml"])
    monkeypatch.setattr(RECORDINGS, "_items", {card.name: RecordingCard.read(tmp_path / "card.toml")})
    assert open_dataset(NAME).metadata["content_sha256"] == collected.storage.metadata["content_sha256"]


def test_a_dataset_whose_play_is_not_known_has_no_recording(hub: FakeHub) -> None:
    write_dataset(NAME, numbered([5]))
    with pytest.raises(DatasetError, match=r"was not uploaded.*is not recorded"):
        upload_recording(NAME, remote=REMOTE)
    assert hub.files() == {}
