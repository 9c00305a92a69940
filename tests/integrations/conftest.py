"""Shared by the tests of all integrations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from torch import Tensor

from pretrainrl.encoders import Encoder


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
