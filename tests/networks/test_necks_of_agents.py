"""Necks of agents, each beside what its description says, and which normalization goes with which."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from pretrainrl.cards import ENCODERS, WIDEST_FLAT, default_features
from pretrainrl.errors import InputError, UnknownNameError
from pretrainrl.networks.necks import NECKS, SpatialNeck, make_neck, resolve_normalization
from pretrainrl.networks.standardize import Standardize

SHAPE = (3, 4, 5)


@pytest.mark.parametrize("shape", [(7,), SHAPE])
@pytest.mark.parametrize("normalization", ["standardize", "layer", None])
def test_mlp(shape: tuple[int, ...], normalization: Any) -> None:
    neck: Any = make_neck("mlp", shape, 6, normalization=normalization)
    features = torch.randn(50, *shape)
    if normalization == "standardize":
        neck[0].fit(features.flatten(1))
    normal = neck[0](features.flatten(1))
    expected = (normal @ neck[1].weight.T + neck[1].bias).relu()
    torch.testing.assert_close(neck(features), expected)
    kinds = {"standardize": Standardize, "layer": nn.LayerNorm, None: nn.Identity}
    assert type(neck[0]) is kinds[normalization]


@pytest.mark.parametrize("embeddings", [1, 2, 5])
@pytest.mark.parametrize("normalization", ["standardize", "layer", None])
def test_spatial(embeddings: int, normalization: Any) -> None:
    neck: Any = make_neck("spatial", SHAPE, 6, normalization=normalization, embeddings=embeddings)
    maps = torch.randn(50, *SHAPE)
    if normalization == "standardize":
        neck[0].fit(maps)
    normal, sums = neck[0](maps), torch.zeros(50, SHAPE[0] * embeddings)
    for channel in range(SHAPE[0]):
        for number in range(embeddings):
            weights = neck[1].weight[channel, number].view(SHAPE[1:])
            sums[:, channel * embeddings + number] = (normal[:, channel] * weights).sum((1, 2))
    torch.testing.assert_close(neck[1](normal), sums)
    torch.testing.assert_close(neck(maps), neck[2](sums).relu())
    assert neck(maps).shape == (50, 6)


def test_weighted_sums_of_unit_variance_have_unit_variance() -> None:
    torch.manual_seed(0)
    neck: Any = make_neck("spatial", (64, 7, 7), 6, embeddings=8)
    assert 0.8 < float(neck[1](torch.randn(500, 64, 7, 7)).std().detach()) < 1.2


def test_atari_pbs_neck_is_its_own() -> None:
    torch.manual_seed(0)
    neck = make_neck("spatial_mlp", SHAPE, 6)
    torch.manual_seed(0)
    expected = SpatialNeck(SHAPE, 6)
    assert neck.state_dict().keys() == {
        "embedding.weight", "norm.weight", "norm.bias", "mlp.0.weight", "mlp.0.bias", "mlp.2.weight", "mlp.2.bias"
    }  # fmt: skip
    assert all(torch.equal(tensor, expected.state_dict()[key]) for key, tensor in neck.state_dict().items())


def test_no_neck_flattens() -> None:
    maps = torch.randn(2, *SHAPE)
    assert torch.equal(make_neck(None, SHAPE, 6)(maps), maps.flatten(1))


def test_what_auto_stands_for() -> None:
    necks: list[Any] = [*NECKS, None]
    found = {
        (neck, trainable): resolve_normalization(neck, "auto", trainable=trainable)
        for neck in necks
        for trainable in (False, True)
    }
    assert found == {
        ("mlp", False): "standardize",
        ("spatial", False): "standardize",
        ("spatial_mlp", False): None,
        (None, False): None,
        ("mlp", True): "layer",
        ("spatial", True): "layer",
        ("spatial_mlp", True): None,
        (None, True): None,
    }
    assert resolve_normalization("mlp", None) is None


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"neck": "mpl"}, UnknownNameError, "unknown neck 'mpl'; did you mean 'mlp'"),
        ({"normalization": "standardise"}, UnknownNameError, "did you mean 'standardize'"),
        (
            {"neck": "spatial_mlp", "normalization": "standardize"},
            InputError,
            "'standardize' is for .* not for neck='spatial_mlp'",
        ),
        ({"neck": "spatial_mlp", "normalization": "layer"}, InputError, "'layer' is for the necks 'mlp' and 'spatial'"),
        ({"neck": None, "normalization": "standardize"}, InputError, "not for neck=None"),
        ({"shape": (7,), "neck": "spatial"}, InputError, r"reads maps \(C, H, W\), got features of shape \(7,\)"),
        ({"shape": (7,), "neck": "spatial_mlp"}, InputError, "encode with features='map'"),
        ({"embeddings": 2}, InputError, "above 1 for neck='spatial' only; got 2"),
        ({"neck": "spatial", "embeddings": 0}, InputError, "at least 1.* got 0"),
        ({"features_dim": 0}, InputError, "features_dim must be positive, got 0"),
    ],
)
def test_bad_arguments(arguments: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        make_neck(**{"neck": "mlp", "shape": SHAPE, "features_dim": 6, **arguments})


def test_a_trainable_encoders_features_are_not_standardized() -> None:
    with pytest.raises(InputError, match=r"'standardize' is for frozen encoders: .* take normalization='layer'"):
        resolve_normalization("mlp", "standardize", trainable=True)


def test_wide_maps_are_pooled() -> None:
    assert default_features((32, 11, 11)) == default_features((64, 7, 7)) == "flat"
    assert default_features((2048, 6, 6)) == "pooled"
    assert (default_features((WIDEST_FLAT, 1, 1)), default_features((WIDEST_FLAT + 1, 1, 1))) == ("flat", "pooled")


def test_registered_encoders_keep_to_the_width() -> None:
    cards = [ENCODERS.get(name) for name in ENCODERS.names("*") if not name.startswith("test.")]
    assert {card.name: card.features for card in cards} == {
        card.name: default_features(card.feature_map_shape) for card in cards
    }
