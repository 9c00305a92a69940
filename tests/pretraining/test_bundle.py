"""A finished run becomes two files of the registry."""

from pathlib import Path

import pytest
from safetensors.torch import save_file

import pretrainrl
from pretrainrl.cards import EncoderCard, Golden, Weights
from pretrainrl.encoders import make_backbone
from pretrainrl.encoders.check import golden_values
from pretrainrl.errors import WeightsError
from pretrainrl.pretraining.bundle import bundle
from pretrainrl.weights import file_sha256


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """What a run folder holds in the end, made without training."""
    folder = tmp_path / "run"
    folder.mkdir()
    path = folder / "encoder.safetensors"
    save_file({key: value.half() for key, value in make_backbone("nature", seed=7).state_dict().items()}, path)
    weights = Weights(sources=(path.name,), sha256=file_sha256(path), bytes=path.stat().st_size)
    base = pretrainrl.encoder_card("random.nature").model_copy(update={"name": "mine.nature", "weights": weights})
    base.write(folder / "card.toml")
    golden = Golden(features=tuple(golden_values(pretrainrl.make_encoder(folder))))
    base.model_copy(update={"golden": golden}).write(folder / "card.toml")
    return folder


def test_weights_and_card_are_copied(finished: Path, tmp_path: Path):
    card = bundle(finished, tmp_path / "registry", summary="mine")
    written = EncoderCard.read(tmp_path / "registry/encoders/mine.nature.toml")
    assert written == card and written.default and written.summary == "mine"
    assert written.weights.sources == ("bundled:weights/mine.nature.safetensors",)
    assert file_sha256(tmp_path / "registry/weights/mine.nature.safetensors") == written.weights.sha256


def test_a_damaged_run_is_not_bundled(finished: Path, tmp_path: Path):
    (finished / "encoder.safetensors").write_bytes(b"")
    with pytest.raises(WeightsError, match="0 bytes"):
        bundle(finished, tmp_path / "registry")
    assert not (tmp_path / "registry").exists()
