"""Golden values: a few features of real frames, recorded in the card, that an encoder must give again."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor

from pretrainrl.cards import EncoderCard, Golden
from pretrainrl.encoders.encoder import Encoder
from pretrainrl.encoders.factory import make_encoder
from pretrainrl.errors import WeightsError
from pretrainrl.weights import locate, read_tensors

COUNT = 16
TOLERANCE = 1e-3  # of the largest value: convolutions differ this much between processors, wrong weights by far more


def golden_values(encoder: Encoder, golden_observation: str = Golden.model_fields["observation"].default) -> list[float]:
    """Return `COUNT` values, evenly spaced, of the float32 features of the golden observation."""
    observation = read_tensors(locate([golden_observation]))["observation"]
    return _spaced(encoder(observation), COUNT)


def verify_encoder(name: str) -> EncoderCard:
    """Check one encoder from source to features: sha256 and size, tensors against the backbone, and the golden values.

    Raises:
        PretrainRLError: of the kind that fits what is wrong.
    """
    encoder = make_encoder(name)
    golden = encoder.card.golden
    if golden is None:
        raise WeightsError(f"{name}: the card has no golden values to check against")
    expected = torch.tensor(golden.features)
    observation = read_tensors(locate([golden.observation]))["observation"]
    error = (torch.tensor(_spaced(encoder(observation), len(expected))) - expected).abs().max() / expected.abs().max()
    if not error <= TOLERANCE:
        raise WeightsError(f"{name}: features differ from the golden values by {error:.2g} of the largest one")
    return encoder.card


def _spaced(features: Tensor, count: int) -> list[float]:
    flat = features.flatten().float()
    chosen: list[float] = flat[torch.linspace(0, len(flat) - 1, count).long()].tolist()
    return [float(f"{value:.6g}") for value in chosen]


def record_observation(path: Path) -> None:
    """Write the golden observation: stacks of real Breakout and Pong frames after 40 steps, (4, 4, 84, 84) uint8."""
    import numpy as np
    from ale_py.vector_env import AtariVectorEnv
    from safetensors.torch import save_file

    stacks = []
    for game in ("breakout", "pong"):
        env = AtariVectorEnv(game, 2, use_fire_reset=False)
        env.reset(seed=0)
        for step in range(40):
            observation, *_ = env.step(np.array([step % 4, (step // 8) % 4]))
        stacks.append(torch.as_tensor(observation))
        env.close()
    save_file({"observation": torch.cat(stacks).clone()}, path)


if __name__ == "__main__":
    record_observation(Path(sys.argv[1]))
