"""Features of all observations, computed once for every probe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pretrainrl.encoders import Encoder
from pretrainrl.probing.samples import Samples

BATCH = 64


@dataclass(frozen=True, eq=False)
class Encoded:
    """What an encoder makes of N observations, on its device.

    Attributes:
        features: (N, D) float32.
        activity: (C,) float64, mean absolute value of each channel of the map.
    """

    features: Tensor
    activity: Tensor


@torch.no_grad()
def encode(encoder: Encoder, samples: Samples, progress: Callable[[int], None] | None = None) -> Encoded:
    """Encode the observations in batches; `progress` is told the size of each."""
    features, activity = [], torch.zeros(encoder.feature_map_shape[0], dtype=torch.float64, device=encoder.device)
    for batch in torch.split(samples.observations, BATCH):
        maps = encoder.feature_map(batch.to(encoder.device))
        features.append(encoder.pool(maps).float())
        activity += maps.abs().mean((2, 3), dtype=torch.float64).sum(0)
        if progress is not None:
            progress(len(batch))
    return Encoded(torch.cat(features), activity / len(samples))


@torch.no_grad()
def energy_maps(encoder: Encoder, observations: Tensor) -> Tensor:
    """Root mean square over channels of the maps of (n, 4, 84, 84) observations: (n, H, W) float32 on the CPU."""
    maps: Tensor = encoder.feature_map(observations.to(encoder.device)).float()
    return maps.square().mean(1).sqrt().cpu()


def evenly(count: int, limit: int) -> Tensor:
    """Up to `limit` of the indices 0..count - 1, evenly spread."""
    if count <= limit:
        return torch.arange(count)
    return torch.arange(limit) * count // limit
