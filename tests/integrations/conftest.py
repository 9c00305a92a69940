"""Shared by the tests of all integrations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from feature_agents import Fits
from torch import Tensor

from pretrainrl.encoders import Encoder
from pretrainrl.networks.standardize import Standardize


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Batch sizes of all forward passes of encoders from here on."""
    sizes: list[int] = []
    forward: Callable[[Encoder, Any], Tensor] = Encoder.map_floats

    def counting(self: Encoder, obs: Any) -> Tensor:
        sizes.append(len(obs))
        return forward(self, obs)

    monkeypatch.setattr(Encoder, "map_floats", counting)
    return sizes


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> Fits:
    found = Fits([])
    fit = Standardize.fit

    def spy(self: Standardize, features: Any) -> None:
        batches = [features] if isinstance(features, Tensor) else list(features)
        found.seen.append(torch.cat(batches).float().numpy() if batches else np.zeros(0))
        fit(self, batches)

    monkeypatch.setattr(Standardize, "fit", spy)
    return found
