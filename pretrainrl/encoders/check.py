"""The encoder contract as a check that third parties can run on their own."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from gymnasium.spaces import Box
from torch import Tensor

from pretrainrl.cards import EncoderCard, Golden
from pretrainrl.encoders.encoder import Encoder
from pretrainrl.encoders.factory import make_encoder
from pretrainrl.errors import InputError, WeightsError
from pretrainrl.weights import fetch, parse_tensors, save_tensors


class EncoderContractError(InputError):
    """An encoder breaks the contract; the message lists every clause that it breaks."""


def check_encoder(encoder: Encoder) -> None:
    """Check that `encoder` keeps the contract of a frozen encoder, like Gymnasium's `check_env` for environments.

    Clauses: a uint8 image `observation_space`; `feature_map_shape` and `features_dim` that are true; finite features that
    do not depend on the rest of the batch, are the same twice, and the same for uint8 frames and floats in [0, 1]; bad
    input refused with `InputError`; nothing trainable, eval mode that survives `train()`, weights and the random state
    untouched by a call. Trainable encoders are checked for everything but being frozen.

    Raises:
        EncoderContractError: When the contract is broken; the message lists every clause that is.
    """
    broken = [text for clause in CLAUSES if (text := _outcome(clause, encoder))]
    if broken:
        raise EncoderContractError(f"{type(encoder).__name__} breaks the encoder contract: " + "; ".join(broken))


def _outcome(clause: Callable[[Encoder], bool], encoder: Encoder) -> str | None:
    """The clause's text if it is broken."""
    text = inspect.getdoc(clause)
    try:
        return None if clause(encoder) else text
    except Exception as error:  # whatever a third party's encoder raises is a finding
        return f"{text} ({type(error).__name__}: {error})"


def _frames(encoder: Encoder, batch: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    shape = (batch, *encoder.observation_space.shape)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8).to(encoder.device)


def _close(a: Tensor, b: Tensor) -> bool:
    """Equal up to what batched kernels may differ by in the encoder's dtype."""
    tolerance = 1e-4 if a.dtype == torch.float32 else 3e-2
    return bool((a - b).abs().max() <= tolerance * a.abs().max())


def _space(encoder: Encoder) -> bool:
    """Observation_space is Box(0, 255, (frames, height, width), uint8)."""
    space = encoder.observation_space
    return isinstance(space, Box) and space.dtype == np.uint8 and len(space.shape) == 3 and bool((space.high == 255).all())


def _shapes(encoder: Encoder) -> bool:
    """Feature_map(obs) is (B, *feature_map_shape) and encoder(obs) is (B, features_dim)."""
    frames = _frames(encoder)
    return encoder.feature_map(frames).shape == (3, *encoder.feature_map_shape) and encoder(frames).shape == (
        3,
        encoder.features_dim,
    )


def _finite(encoder: Encoder) -> bool:
    """Features are finite and differ between different frames."""
    features = encoder(_frames(encoder))
    return bool(features.isfinite().all()) and not torch.equal(features[0], features[1])


def _repeatable(encoder: Encoder) -> bool:
    """The same frames give the same features twice."""
    return torch.equal(encoder(_frames(encoder)), encoder(_frames(encoder)))


def _batch_independent(encoder: Encoder) -> bool:
    """An observation's features do not depend on the rest of the batch."""
    frames = _frames(encoder)
    return _close(encoder(frames)[:1], encoder(frames[:1]))


def _scaling(encoder: Encoder) -> bool:
    """Frames as uint8 and as floats in [0, 1] give the same features."""
    frames = _frames(encoder)
    return torch.equal(encoder(frames), encoder(frames.float() / 255))


def _refusals(encoder: Encoder) -> bool:
    """A wrong shape, dtype or range is refused with InputError."""
    frames = _frames(encoder)
    for bad in (frames[0], frames[:, :-1], frames.long(), frames.float()):
        try:
            encoder(bad)
        except InputError:
            continue
        return False
    return True


def _frozen(encoder: Encoder) -> bool:
    """A frozen encoder has no trainable parameter, gives no gradient, and stays in eval mode after train()."""
    if getattr(encoder, "trainable", False):
        return True
    encoder.train()
    modes = any(module.training for module in encoder.modules())
    return not modes and not any(p.requires_grad for p in encoder.parameters()) and not encoder(_frames(encoder)).requires_grad


def _untouched(encoder: Encoder) -> bool:
    """A call changes neither the weights nor the random state."""
    weights = [tensor.clone() for tensor in encoder.state_dict().values()]
    state = torch.get_rng_state()
    encoder(_frames(encoder))
    same = all(map(torch.equal, weights, encoder.state_dict().values()))
    return same and torch.equal(state, torch.get_rng_state())


CLAUSES = (
    _space,
    _shapes,
    _finite,
    _repeatable,
    _batch_independent,
    _scaling,
    _refusals,
    _frozen,
    _untouched,
)


COUNT = 16
TOLERANCE = 1e-3  # of the largest value: convolutions differ this much between processors, wrong weights by far more


def golden_values(encoder: Encoder, golden_observation: str = Golden.model_fields["observation"].default) -> list[float]:
    """Return `COUNT` values, evenly spaced, of the float32 features of the golden observation."""
    observation = parse_tensors(fetch([golden_observation]))["observation"]
    return _spaced(encoder(observation), COUNT)


def verify_encoder(name: str) -> EncoderCard:
    """Check one encoder from source to features: sha256 and size, tensors against the backbone, and the golden values.

    Raises:
        PretrainRLError: When something is wrong; its class says of what kind.
    """
    encoder = make_encoder(name)
    golden = encoder.card.golden
    if golden is None:
        raise WeightsError(f"{name}: the card has no golden values to check against")
    expected = torch.tensor(golden.features)
    observation = parse_tensors(fetch([golden.observation]))["observation"]
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

    stacks = []
    for game in ("breakout", "pong"):
        env = AtariVectorEnv(game, 2, use_fire_reset=False)
        env.reset(seed=0)
        for step in range(40):
            observation, *_ = env.step(np.array([step % 4, (step // 8) % 4]))
        stacks.append(torch.as_tensor(observation))
        env.close()
    save_tensors({"observation": torch.cat(stacks).clone()}, path)


if __name__ == "__main__":
    record_observation(Path(sys.argv[1]))
