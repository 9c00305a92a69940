"""Weights into encoders: what is refused, and what is loaded by path and by name."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import pretrainrl
from pretrainrl.cards import ENCODERS, EncoderCard, Weights
from pretrainrl.encoders import make_backbone
from pretrainrl.encoders.check import verify_encoder
from pretrainrl.errors import CardError, WeightsError
from pretrainrl.weights import file_sha256


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run folder with its own weights for the nature backbone."""
    tensors = {key: value.half() for key, value in make_backbone("nature", seed=3).state_dict().items()}
    path = tmp_path / "encoder.safetensors"
    save_file(tensors, path)
    weights = Weights(sources=(path.name,), sha256=file_sha256(path), bytes=path.stat().st_size)
    base = pretrainrl.encoder_card("random.nature")
    base.model_copy(update={"name": "mine.nature", "objective": "mine", "weights": weights, "golden": None}).write(
        tmp_path / "card.toml"
    )
    return tmp_path


def test_a_run_folder_loads_by_path_and_by_name(folder: Path, monkeypatch: pytest.MonkeyPatch):
    by_path = pretrainrl.make_encoder(str(folder))
    monkeypatch.setattr(ENCODERS, "_items", dict(ENCODERS._discovered()))
    assert pretrainrl.register_encoder(folder).name == "mine.nature"
    by_name = pretrainrl.make_encoder("mine.nature")
    assert by_path.sha256 == by_name.sha256 == file_sha256(folder / "encoder.safetensors")
    frames = torch.randint(0, 256, (1, 4, 84, 84), dtype=torch.uint8)
    assert torch.equal(by_path(frames), by_name(frames))


def test_weights_can_be_replaced(folder: Path):
    own = pretrainrl.make_encoder(folder)
    borrowed = pretrainrl.make_encoder("random.nature", weights=folder / "encoder.safetensors")
    untrained = pretrainrl.make_encoder(folder, weights="random")
    assert borrowed.sha256 == own.sha256
    assert untrained.sha256 == pretrainrl.make_encoder("random.nature").sha256


def test_a_changed_file_is_refused(folder: Path):
    path = folder / "encoder.safetensors"
    path.write_bytes(path.read_bytes()[:-2] + b"\0\0")
    with pytest.raises(WeightsError, match="sha256"):
        pretrainrl.make_encoder(folder)


def test_tensors_that_do_not_fit_are_all_listed(tmp_path: Path):
    tensors = make_backbone("nature").state_dict()
    tensors["layers.0.weight"] = tensors["layers.0.weight"][:, :3].clone()
    tensors["layers.2.bias"] = torch.full_like(tensors["layers.2.bias"], torch.nan)
    tensors["extra"] = tensors.pop("layers.4.bias")
    save_file(tensors, tmp_path / "bad.safetensors")
    with pytest.raises(WeightsError) as error:
        pretrainrl.make_encoder("random.nature", weights=tmp_path / "bad.safetensors")
    for finding in (
        "layers.0.weight is (32, 3, 8, 8) instead of (32, 4, 8, 8)",
        "layers.2.bias has values that are not finite",
    ):
        assert finding in str(error.value)
    assert "extra is unexpected" in str(error.value) and "layers.4.bias is missing" in str(error.value)


def test_a_pickled_file_is_never_opened(tmp_path: Path):
    torch.save(make_backbone("nature").state_dict(), tmp_path / "weights.pt")
    with pytest.raises(WeightsError, match="not a readable safetensors file"):
        pretrainrl.make_encoder("random.nature", weights=tmp_path / "weights.pt")


def test_a_card_that_lies_about_its_map(folder: Path):
    card = EncoderCard.read(folder / "card.toml")
    card.model_copy(update={"feature_map_shape": (64, 8, 8)}).write(folder / "card.toml")
    with pytest.raises(CardError, match=r"feature_map_shape is \(64, 8, 8\), but nature gives \(64, 7, 7\)"):
        pretrainrl.make_encoder(folder)


def test_golden_values_catch_a_backbone_that_changed(folder: Path):
    golden = pretrainrl.encoder_card("random.nature").golden  # of other weights
    card = EncoderCard.read(folder / "card.toml")
    card.model_copy(update={"golden": golden}).write(folder / "card.toml")
    with pytest.raises(WeightsError, match="differ from the golden values"):
        verify_encoder(str(folder))


def test_moving_the_folder_keeps_it_loadable(folder: Path, tmp_path_factory: pytest.TempPathFactory):
    moved = tmp_path_factory.mktemp("elsewhere") / "run"
    folder.rename(moved)
    assert pretrainrl.make_encoder(moved).name == "mine.nature"
    assert isinstance(EncoderCard.read(moved / "card.toml"), EncoderCard)
