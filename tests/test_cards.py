"""Cards: what they refuse, and that writing and reading are inverse."""

from pathlib import Path
from typing import Any

import pytest

import pretrainrl
from pretrainrl.cards import BACKBONES, OBJECTIVES, EncoderCard, TrainingPreset, find_card
from pretrainrl.errors import CardError


def table() -> dict[str, Any]:
    return pretrainrl.encoder_card("random.impala").model_dump(mode="json", exclude_none=True)


@pytest.mark.parametrize("name", pretrainrl.list_encoders())
def test_written_cards_read_back(name: str, tmp_path: Path):
    card = pretrainrl.encoder_card(name)
    card.write(tmp_path / "card.toml")
    assert EncoderCard.read(tmp_path / "card.toml") == card


@pytest.mark.parametrize("name", pretrainrl.list_encoders())
def test_shipped_encoder_cards_are_complete(name: str):
    card = pretrainrl.encoder_card(name)
    assert card.golden is not None and card.license and card.backbone in BACKBONES.names()
    if card.objective != "random":
        assert card.training is not None and card.paper is not None and card.metrics
        assert card.objective in OBJECTIVES.names()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"license": None}, "'license'"),
        ({"licens": "MIT"}, "unknown field 'licens', did you mean 'license'"),
        ({"feature_map_shape": [32, 11]}, "feature_map_shape.2"),
        ({"feature_map_shape": [32, 11, "11"]}, "feature_map_shape.2.*got '11'"),
        ({"features": "mean"}, "'flat' or 'pooled', got 'mean'"),
        ({"name": "Bad Name"}, "name"),
        ({"weights": {"seed": 0, "sha256": "ab"}}, "sha256"),
        ({"weights": {"sources": ["x.safetensors"]}}, "give either sources, sha256 and bytes, or seed"),
        ({"observation": {"sticky_actions": 1.5}}, "sticky_actions"),
    ],
)
def test_each_wrong_field_is_named(change: dict[str, Any], message: str):
    with pytest.raises(CardError, match=message):
        EncoderCard.parse({**table(), **change}, "some card")


def test_a_missing_field_is_named():
    fields = table()
    del fields["backbone"]
    with pytest.raises(CardError, match=r"some card: field 'backbone' is missing"):
        EncoderCard.parse(fields, "some card")


def test_all_wrong_fields_are_named_at_once():
    with pytest.raises(CardError, match=r"(?s)summary.*features"):
        EncoderCard.parse({**table(), "summary": 3, "features": 3}, "some card")


@pytest.mark.parametrize("content", ["not = [toml", "\xff\xfe"])
def test_files_that_are_not_toml(tmp_path: Path, content: str):
    path = tmp_path / "card.toml"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(CardError, match="is not a TOML file"):
        EncoderCard.read(path)


def test_a_missing_file(tmp_path: Path):
    with pytest.raises(CardError, match="no card at"):
        find_card(tmp_path / "nowhere")


def test_weights_beside_a_card_are_found_from_anywhere(tmp_path: Path):
    weights = {"sources": ["encoder.safetensors"], "sha256": "0" * 64, "bytes": 1}
    EncoderCard.parse({**table(), "weights": weights}, "x").write(tmp_path / "card.toml")
    assert find_card(tmp_path).weights.sources == (str(tmp_path.resolve() / "encoder.safetensors"),)


def test_a_training_preset_has_one_length():
    with pytest.raises(CardError, match="steps or epochs"):
        TrainingPreset.parse({"batch_size": 8, "lr": 1e-3, "steps": 5, "epochs": 1}, "preset")
