"""Frozen layers compute what the ordinary ones do, whatever happens to their weights."""

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import pretrainrl
from pretrainrl.encoders import Encoder, make_backbone
from pretrainrl.encoders.frozen import FrozenConv2d, FrozenReLU, freeze, thaw
from pretrainrl.objectives import make_objective

DTYPES = (torch.float32, torch.bfloat16)
CONVOLUTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"stride": 2, "padding": 1},
    {"groups": 2, "bias": False},
    {"dilation": 2, "padding": (2, 1)},
    {"padding": "same"},
    {"padding": 1, "padding_mode": "reflect"},
)


def random(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype, memory_format=torch.channels_last)


def tolerance(dtype: torch.dtype) -> dict[str, Any]:
    """Rounding: kernels may add up in another order."""
    return {"rtol": 1e-5, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 2e-2, "atol": 2e-2}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("options", CONVOLUTIONS, ids=str)
@torch.no_grad()
def test_convolutions(options, dtype):
    ordinary = nn.Conv2d(8, 16, 3, **options).to(dtype).to(memory_format=torch.channels_last)
    frozen = copy.deepcopy(ordinary)
    freeze(frozen)
    assert isinstance(frozen, FrozenConv2d) and not frozen.weight.requires_grad
    for batch in (4, 1, 4):
        image = random(batch, 8, 12, 10, dtype=dtype)
        for layout in (image, image.contiguous()):
            torch.testing.assert_close(frozen(layout), ordinary(layout), **tolerance(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("inplace", [False, True])
@torch.no_grad()
def test_relus(inplace, dtype):
    frozen = nn.Sequential(nn.ReLU(inplace))
    freeze(frozen)
    values = random(2, 3, 5, 7, dtype=dtype)
    values[0, 0, 0] = torch.tensor([0.0, -0.0, torch.inf, -torch.inf, 1e-38, -1e-38, torch.nan])
    before = values.clone()
    result = frozen(values)
    assert isinstance(frozen[0], FrozenReLU) and (result.data_ptr() == values.data_ptr()) == inplace
    torch.testing.assert_close(result, before.relu(), rtol=0, atol=0, equal_nan=True)
    assert inplace or torch.equal(values.nan_to_num(), before.nan_to_num())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["nature", "impala", "resnet50"])
@torch.no_grad()
def test_backbones(name, dtype):
    options: dict[str, Any] = {"width": 1 / 4} if name == "resnet50" else {}
    ordinary = make_backbone(name, **options).to(dtype).to(memory_format=torch.channels_last).eval()
    frozen = copy.deepcopy(ordinary)
    freeze(frozen)
    assert list(frozen.state_dict()) == list(ordinary.state_dict())
    frames = random(3, 4, 84, 84, dtype=dtype).abs()
    torch.testing.assert_close(frozen(frames), ordinary(frames), **tolerance(dtype))


def changes():
    """Ways in which weights change under a layer that has seen others."""
    yield "loaded", lambda layer, weight: layer.load_state_dict({"weight": weight})
    yield "in place", lambda layer, weight: layer.weight.copy_(weight)
    yield "data", lambda layer, weight: setattr(layer.weight, "data", weight)
    yield "replaced", lambda layer, weight: setattr(layer, "weight", nn.Parameter(weight, requires_grad=False))


@pytest.mark.parametrize("change", [pytest.param(change, id=name) for name, change in changes()])
@torch.no_grad()
def test_changed_weights_are_noticed(change):
    layer = nn.Conv2d(8, 16, 3, bias=False).to(memory_format=torch.channels_last)
    freeze(layer)
    image, weight = random(2, 8, 9, 9), random(16, 8, 3, 3)
    layer(image)
    change(layer, weight)
    torch.testing.assert_close(layer(image), torch.conv2d(image, weight))


def test_gradients_still_flow_through():
    layers = (
        nn.Sequential(nn.Conv2d(4, 8, 3), nn.ReLU(), nn.Conv2d(8, 2, 1))
        .to(torch.bfloat16)
        .to(memory_format=torch.channels_last)
    )
    freeze(layers)
    image = random(2, 4, 9, 9, dtype=torch.bfloat16).requires_grad_()
    with torch.no_grad():
        layers(image)
    layers(image).sum().backward()
    assert image.grad is not None and image.grad.any()


@pytest.mark.parametrize("made_there", [False, True])
def test_inference_mode(made_there):
    with torch.inference_mode(made_there):
        layers = nn.Sequential(nn.Conv2d(4, 8, 3), nn.ReLU()).to(torch.bfloat16).to(memory_format=torch.channels_last)
        expected = layers(random(2, 4, 9, 9, dtype=torch.bfloat16)).detach()
        freeze(layers)
    for mode in (torch.inference_mode, torch.no_grad, torch.inference_mode):
        with mode():
            assert torch.equal(layers(random(2, 4, 9, 9, dtype=torch.bfloat16)), expected)


@torch.no_grad()
def test_copies_and_pickles():
    layers = nn.Sequential(nn.Conv2d(4, 8, 3), nn.ReLU()).to(memory_format=torch.channels_last)
    freeze(layers)
    image = random(2, 4, 9, 9)
    expected = layers(image)
    for copied in (copy.deepcopy(layers), pickle.loads(pickle.dumps(layers))):
        assert torch.equal(copied(image), expected)


def test_what_is_trained_further_is_thawed():
    encoder = pretrainrl.make_encoder("siammae", dtype=torch.bfloat16)
    encoder(torch.zeros(1, 4, 84, 84, dtype=torch.uint8))
    backbone = make_objective("bc", encoder=encoder, num_games=1).backbone
    assert {type(layer) for layer in backbone.modules() if isinstance(layer, nn.Conv2d)} == {nn.Conv2d}
    assert all(parameter.requires_grad for parameter in backbone.parameters())
    again = Encoder(encoder.backbone, encoder.card, encoder.sha256, trainable=True)
    assert all(parameter.requires_grad for parameter in again.parameters())
    layers = nn.Sequential(nn.Conv2d(4, 8, 3), nn.ReLU())
    before = copy.deepcopy(layers)
    freeze(layers)
    thaw(layers)
    assert str(layers) == str(before) and vars(layers[0]).keys() == vars(before[0]).keys()
