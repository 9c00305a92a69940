"""The memory that a probe takes is what its documentation says."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from pretrainrl.encoders import make_encoder
from pretrainrl.probing import Samples, probe

N, RAM = 400, 128
OBSERVATION = 4 * 84 * 84  # bytes


class LargestTensor(TorchDispatchMode):
    """Keeps the size in bytes of the largest tensor that any operation makes."""

    size = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for each in result if isinstance(result, tuple | list) else (result,):
            if isinstance(each, torch.Tensor) and each.layout is torch.strided:
                self.size = max(self.size, each.untyped_storage().nbytes())
        return result


def test_nothing_is_larger_than_the_observations() -> None:
    """All bytes of the console's memory vary here, and have the most classes that a probe gives them."""
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int, high: int) -> torch.Tensor:
        return torch.randint(0, high, shape, dtype=torch.uint8, generator=generator)

    samples = Samples(
        "pong",
        drawn(N, 4, 84, 84, high=256),
        drawn(N, high=6).long(),
        drawn(N, high=3).long() - 1,
        drawn(N, RAM, high=256),
        torch.arange(N) // 50,
        torch.arange(N) % 50,
    )
    encoder = make_encoder("random.nature", features="pooled")
    with LargestTensor() as largest:
        found = probe(encoder, [samples])
    assert len(found.games[0].ram) == RAM
    assert largest.size <= N * OBSERVATION
