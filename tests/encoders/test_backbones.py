"""The backbones against what they are said to be."""

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from stable_baselines3.common.torch_layers import NatureCNN

import pretrainrl
from pretrainrl.cards import BACKBONES
from pretrainrl.encoders import make_backbone
from pretrainrl.errors import InputError, UnknownNameError


@pytest.mark.parametrize("name", BACKBONES.names())
def test_map_shape_and_seed(name: str):
    options: dict[str, Any] = {"width": 1 / 16} if name == "resnet50" else {}
    first, again, other = (make_backbone(name, seed=seed, **options) for seed in (1, 1, 2))
    shape: Any = first.feature_map_shape
    frames = torch.rand(2, 4, 84, 84)
    assert first(frames).shape == (2, *shape)
    assert torch.equal(first(frames), again(frames)) and not torch.equal(first(frames), other(frames))
    assert first(frames).min() == 0  # every backbone ends in a ReLU


def test_nature_is_the_convolutions_of_sb3():
    reference = NatureCNN(Box(0, 255, (4, 84, 84), np.uint8)).cnn
    backbone = make_backbone("nature")
    backbone.layers.load_state_dict(reference.state_dict())
    frames = torch.rand(2, 4, 84, 84)
    torch.testing.assert_close(backbone(frames).flatten(1), reference(frames))


@pytest.mark.parametrize(("name", "parameters"), [("nature", 77_984), ("impala", 97_744), ("resnet50", 23_458_048)])
def test_parameter_counts(name: str, parameters: int):
    assert sum(p.numel() for p in make_backbone(name).parameters()) == parameters


def test_resnet_width_scales_every_stage_but_the_first_convolution():
    backbone: Any = make_backbone("resnet50", width=1 / 16)
    assert backbone.feature_map_shape == (128, 6, 6)
    assert backbone.stem[0].weight.shape == (64, 4, 7, 7)
    assert [stage[0].conv1.out_channels for stage in backbone.stages] == [4, 8, 16, 32]
    norms = [module for module in backbone.modules() if isinstance(module, torch.nn.GroupNorm)]
    assert len(norms) == 53 and all(norm.num_groups == 4 and not norm.affine for norm in norms)
    assert not any(name.endswith("bias") for name, _ in backbone.named_parameters())


def test_unknown_backbones_and_options():
    with pytest.raises(UnknownNameError, match="did you mean 'resnet50'"):
        make_backbone("resnet")
    with pytest.raises(InputError, match=r"refuses its options.*depth"):
        make_backbone("impala", depth=3)


def test_a_third_party_backbone_is_named_by_its_target():
    backbone = make_backbone("pretrainrl.encoders.impala:Impala", width=2)
    assert backbone.feature_map_shape == (64, 11, 11)
    assert "random.impala" in pretrainrl.list_encoders()
