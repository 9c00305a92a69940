"""Standardization: the formula beside an obvious reference, its statistics, what is refused, and copies of all kinds."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from pretrainrl.errors import InputError
from pretrainrl.networks.standardize import MIN_OBSERVATIONS, Standardize


def by_definition(data: np.ndarray, features: np.ndarray) -> np.ndarray:
    """One feature at a time, in float64."""
    data, features = data.astype(np.float64), features.astype(np.float64)
    std = [np.sqrt(np.mean((column - np.mean(column)) ** 2)) for column in data.reshape(len(data), -1).T]
    result = np.empty_like(features).reshape(len(features), -1)
    for index, column in enumerate(data.reshape(len(data), -1).T):
        away = features.reshape(len(features), -1)[:, index] - np.mean(column)
        result[:, index] = np.clip(away / (std[index] + 0.01 * np.mean(std)), -5, 5)
    return result.reshape(features.shape)


def sample(shape: tuple[int, ...], count: int = 200, seed: int = 0) -> np.ndarray:
    """Features of different scale, some constant, many zero."""
    generator = np.random.default_rng(seed)
    scale, offset = np.exp(generator.normal(size=shape)), generator.normal(size=shape)
    data = np.maximum(generator.normal(size=(count, *shape)) * scale + offset, 0)
    data.reshape(count, -1)[:, ::3] = data.reshape(count, -1)[0, ::3]
    return data.astype(np.float32)


def fitted(shape: tuple[int, ...] = (7,), seed: int = 0) -> Standardize:
    module = Standardize(shape)
    module.fit(torch.from_numpy(sample(shape, seed=seed)))
    return module


def same_state(one: nn.Module, other: nn.Module) -> bool:
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("shape", [(2,), (7,), (3, 4, 5)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_it_is_what_the_formula_says(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    data = torch.from_numpy(sample(shape)).to(dtype)
    other = torch.from_numpy(2 * sample(shape, 50, seed=1)).to(dtype)
    module = Standardize(shape)
    module.fit(data)
    for features in (data, other):
        result = module(features)
        assert result.dtype == torch.float32 and result.shape == features.shape
        expected = by_definition(data.float().numpy(), features.float().numpy())
        np.testing.assert_allclose(result.numpy(), expected, rtol=1e-4, atol=1e-5)


def test_batches_of_any_size_give_the_same_statistics() -> None:
    data = torch.from_numpy(sample((5,), 3000))
    whole, parts = Standardize((5,)), Standardize((5,))
    whole.fit(data)
    parts.fit(part for part in torch.split(data, 17))
    torch.testing.assert_close(whole.mean, parts.mean, rtol=1e-6, atol=0)
    torch.testing.assert_close(whole.scale, parts.scale, rtol=1e-6, atol=0)


def test_before_it_is_fitted_features_pass_unchanged() -> None:
    features = torch.randn(4, 7) * 100
    module = Standardize((7,))
    assert not module.is_fitted and torch.equal(module(features), features)
    assert module(features.half()).dtype == torch.float32


numbers = st.floats(-1e4, 1e4, width=32)


@settings(deadline=None)
@given(
    constant=numbers,
    offset=numbers,
    scale=st.floats(2**-20, 2**20, width=32),
    seed=st.integers(0, 2**16),
    batch=st.integers(1, 64),
)
def test_constant_features_are_zero_and_nothing_is_nan(
    constant: float, offset: float, scale: float, seed: int, batch: int
) -> None:
    moving = torch.randn(MIN_OBSERVATIONS + 5, 2, generator=torch.Generator().manual_seed(seed)) * scale + offset
    data = torch.cat([torch.full((len(moving), 1), constant), moving], dim=1)
    module = Standardize((3,))
    module.fit(iter(data.split(batch)))
    result = module(data)
    assert torch.isfinite(result).all() and result.abs().max() <= 5
    assert (result[:, 0] == 0).all()
    assert torch.isfinite(module(torch.full((1, 3), 3e38))).all()


@settings(deadline=None)
@given(constant=st.floats(-(2.0**100), 2.0**100, width=32))
def test_where_all_is_constant_all_is_zero(constant: float) -> None:
    data = torch.full((40, 3), constant)
    module = Standardize((3,))
    module.fit(data)
    assert (module(data) == 0).all() and module.is_fitted
    changed = torch.nextafter(data, torch.full_like(data, float("inf")))
    assert (module(changed) > 0).all(), "what changes later is seen"


def test_subnormal_deviations_do_not_overflow() -> None:
    data = torch.full((40, 2), 0.0)
    data[0] = 1e-44
    module = Standardize((2,))
    module.fit(data)
    assert torch.isfinite(module(data)).all() and torch.isfinite(module.scale).all()


# --- what is refused


@pytest.mark.parametrize("count", [0, 1, MIN_OBSERVATIONS - 1])
def test_too_few_observations(count: int) -> None:
    module = Standardize((2,))
    with pytest.raises(InputError, match=rf"at least {MIN_OBSERVATIONS} observations, got {count}; give it more"):
        module.fit(torch.randn(count, 2))
    assert not module.is_fitted and same_state(module, Standardize((2,)))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_features_that_are_not_finite(value: float) -> None:
    data = torch.randn(100, 2)
    data[70, 1] = value
    module = Standardize((2,))
    with pytest.raises(InputError, match="some features are not finite"):
        module.fit(data.split(10))
    assert not module.is_fitted and same_state(module, Standardize((2,)))


def test_another_shape() -> None:
    with pytest.raises(InputError, match=r"expected features \(N, 2, 3\), got \(40, 6\)"):
        Standardize((2, 3)).fit(torch.randn(40, 6))


def test_it_is_fitted_once() -> None:
    module = fitted()
    before = deepcopy(module)
    with pytest.raises(InputError, match="measured already"):
        module.fit(torch.randn(100, 7))
    assert same_state(module, before)


# --- copies


def loaded(module: Standardize) -> Standardize:
    other = Standardize(module.mean.shape)
    other(torch.zeros(1, *module.mean.shape))
    other.load_state_dict(module.state_dict())
    return other


def filled(module: Standardize) -> Standardize:
    """Tensor by tensor, as safetensors are read."""
    other = Standardize(module.mean.shape)
    for name, buffer in other.named_buffers():
        buffer.copy_(dict(module.named_buffers())[name])
    return other


COPIES: dict[str, Callable[[Standardize], Standardize]] = {
    "deepcopy": deepcopy,
    "pickle": lambda module: pickle.loads(pickle.dumps(module)),
    "state_dict": loaded,
    "buffers": filled,
    "moved": lambda module: module.to("cpu").to(torch.float32),
}


@pytest.mark.parametrize("way", COPIES)
def test_copies_are_bit_identical(way: str) -> None:
    module, features = fitted((3, 2, 2)), torch.randn(5, 3, 2, 2)
    expected = module(features)
    copy = COPIES[way](module)
    assert copy.is_fitted and torch.equal(copy(features), expected) and same_state(copy, module)


def test_an_unfitted_state_makes_it_unfitted() -> None:
    module = fitted()
    module.load_state_dict(Standardize((7,)).state_dict())
    features = torch.randn(3, 7)
    assert not module.is_fitted and torch.equal(module(features), features)
    module.fit(torch.randn(100, 7))


def test_a_state_of_another_neck_is_refused() -> None:
    older = nn.Sequential(nn.LayerNorm(7), nn.Linear(7, 3))
    neck = nn.Sequential(Standardize((7,)), nn.Linear(7, 3))
    with pytest.raises(RuntimeError, match=r"0 standardizes features, and .* saved with another neck\. Make the agent with"):
        neck.load_state_dict(older.state_dict())


def test_no_optimizer_reaches_the_statistics() -> None:
    module = fitted()
    assert list(module.parameters()) == [] and set(module.state_dict()) == {"mean", "scale", "fitted"}


def test_gradients_pass_through() -> None:
    module, features = fitted(), torch.randn(4, 7, requires_grad=True)
    (gradient,) = torch.autograd.grad(module(features).sum(), features)
    inside = (features.detach() - module.mean).mul(module.scale).abs() < 5
    torch.testing.assert_close(gradient, torch.where(inside, module.scale, 0).expand(4, 7))


def test_the_device_is_not_asked_once_it_is_fitted(monkeypatch: pytest.MonkeyPatch) -> None:
    module = fitted()
    module(torch.zeros(1, 7))

    def asked(self: Tensor) -> Any:
        raise AssertionError("reading a value waits for the device")

    monkeypatch.setattr(Tensor, "__bool__", asked)
    monkeypatch.setattr(Tensor, "item", asked)
    module(torch.zeros(1, 7))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_an_accelerator_gives_the_same() -> None:
    data = torch.from_numpy(sample((7,)))
    here, there = fitted(), Standardize((7,)).cuda()
    there.fit(data.cuda())
    assert all(torch.equal(here.state_dict()[key], there.state_dict()[key].cpu()) for key in here.state_dict())
    torch.testing.assert_close(there(data.cuda()).cpu(), here(data))


def test_memory_is_bounded_by_the_batch() -> None:
    sizes = []

    def batches() -> Iterator[Tensor]:
        for _ in range(50):
            sizes.append(1)
            yield torch.randn(10, 3)

    Standardize((3,)).fit(batches())
    assert len(sizes) == 50
