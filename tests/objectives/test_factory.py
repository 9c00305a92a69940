from typing import Any

import pytest
import torch

import pretrainrl
from pretrainrl.encoders import make_backbone, make_encoder
from pretrainrl.errors import InputError, UnknownNameError
from pretrainrl.objectives import make_objective


def test_facade_trains_a_backbone_named_by_a_string():
    objective = pretrainrl.make_objective("curl", encoder="nature", num_games=3)
    assert objective.feature_map_shape == (64, 7, 7)
    assert objective.head.weight.shape == (3, 512 * 512)  # the paper's sizes unless a preset is named


def test_preset_and_overrides():
    objective = make_objective("curl", encoder="nature", num_games=1, preset="nano", temperature=0.7)
    assert objective.neck.out_features == 128 and objective.temperature == 0.7


def test_encoder_is_copied_and_stays_frozen():
    encoder = make_encoder("random.nature", dtype=torch.bfloat16)
    objective = make_objective("idm", encoder=encoder, num_games=1, preset="nano")
    assert objective.backbone is not encoder.backbone
    assert all(p.requires_grad and p.dtype == torch.float32 for p in objective.backbone.parameters())
    assert not any(p.requires_grad for p in encoder.parameters())
    for ours, theirs in zip(objective.backbone.parameters(), encoder.backbone.parameters(), strict=True):
        assert torch.equal(ours, theirs.float()) and ours.data_ptr() != theirs.data_ptr()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"name": "crul"}, UnknownNameError, "did you mean 'curl'"),
        ({"preset": "nanno"}, UnknownNameError, "did you mean 'nano'"),
        ({"encoder": "impalla"}, UnknownNameError, "did you mean 'impala'"),
        ({"temprature": 1.0}, UnknownNameError, "did you mean 'temperature'"),
        ({"num_games": 0}, InputError, "at least one game"),
        ({"temperature": 0.0}, InputError, "temperature must be positive"),
        ({"neck_widths": ()}, InputError, "positive widths"),
        ({"encoder": torch.nn.Identity()}, InputError, "Identity has none"),
        ({"name": "siammae", "mask_ratio": 1.0}, InputError, "mask_ratio must be in"),
        ({"name": "spr", "temperature": -1.0}, InputError, "temperature must be positive, got -1.0"),
        ({"name": "mae", "mask_ratio": -0.1}, InputError, "mask_ratio must be in"),
        ({"name": "siammae", "heads": 3}, InputError, "not a multiple of its 3 heads"),
    ],
)
def test_bad_arguments(arguments, error, message):
    given: dict[str, Any] = {"name": "curl", "encoder": make_backbone("nature"), "num_games": 1, **arguments}
    with pytest.raises(error, match=message):
        make_objective(given.pop("name"), **given)
