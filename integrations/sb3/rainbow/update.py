"""The loss of a batch of transitions."""

from __future__ import annotations

from typing import Protocol, TypeVar

import torch
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import Tensor, nn

from pretrainrl.device import mixed_precision
from pretrainrl.integrations.sb3.rainbow.policies import RainbowNetwork

Obs = TypeVar("Obs", bound=PyTorchObs)


class Transitions(Protocol):
    """What a replay buffer samples; the last two only if it is prioritized."""

    @property
    def observations(self) -> PyTorchObs:
        """(B, ...)."""

    @property
    def actions(self) -> Tensor:
        """(B, 1) int64."""

    @property
    def next_observations(self) -> PyTorchObs:
        """(B, ...), n steps later or where the episode ended."""

    @property
    def dones(self) -> Tensor:
        """(B, 1) float; 1 where nothing follows."""

    @property
    def rewards(self) -> Tensor:
        """(B, 1) float, summed and discounted."""

    @property
    def discounts(self) -> Tensor | None:
        """(B, 1) float of the next observation's value; None for one step's."""

    @property
    def weights(self) -> Tensor:
        """(B, 1) float, importance weights."""

    @property
    def indices(self) -> object:
        """Where the transitions are, for `update_priorities`."""


def td_losses(
    online: RainbowNetwork,
    target: RainbowNetwork,
    batch: Transitions,
    *,
    double_q: bool,
    augment: bool,
    gamma: float,
    precision: str = "32-true",
) -> tuple[Tensor, Tensor]:
    """Compare the actions' returns with reward and discounted return of the best action that follows.

    Args:
        online: Network that is trained.
        target: Network that values what follows.
        batch: Batch of B transitions.
        double_q: Whether `online` chooses the best action, rather than `target`.
        augment: Whether images of both observations are changed at random.
        gamma: Discount, where the batch has none.
        precision: Precision: `32-true`, or `bf16-mixed`, with which both networks compute in bfloat16. A frozen encoder, and
            all that follows the networks' outputs, is computed in float32.

    Returns:
        Losses (B,), and priorities (B,) without gradient.
    """
    both = _join(batch.observations, batch.next_observations)
    now, later = _halves(online.encode(both, augment=augment))
    with mixed_precision(precision, batch.actions.device):
        # The weights' copies in bfloat16, made here with their gradients, serve the second pass too.
        outputs = online.forward_encoded(now)
        with torch.no_grad():
            following = target.forward_encoded(later).float()
            choosing = online.forward_encoded(later).float() if double_q else following
    with torch.no_grad():
        best = _pick(following, online.values.mean(choosing).argmax(dim=1))
        discounts = (1 - batch.dones) * (gamma if batch.discounts is None else batch.discounts)
    taken = _pick(outputs.float(), batch.actions.squeeze(1).long())
    return online.values.losses(taken, best, batch.rewards.squeeze(1), discounts.squeeze(1))


def clip_gradients(parameters: list[nn.Parameter], max_norm: float) -> None:
    """Scale gradients down to a norm, as `clip_grad_norm_` does, but leave those alone that would be multiplied by one."""
    if parameters[0].device.type != "cpu":  # where looking at the norm would wait for the device
        nn.utils.clip_grad_norm_(parameters, max_norm)
        return
    norm = nn.utils.get_total_norm([each.grad for each in parameters if each.grad is not None])
    if not norm + 1e-6 <= max_norm:
        nn.utils.clip_grads_with_norm_(parameters, max_norm, norm)


def _pick(outputs: Tensor, actions: Tensor) -> Tensor:
    """Return the outputs (B, size) of actions (B,), of outputs (B, n_actions, size)."""
    return outputs.gather(1, actions.view(-1, 1, 1).expand(-1, 1, outputs.shape[2])).squeeze(1)


def _join(first: PyTorchObs, second: PyTorchObs) -> PyTorchObs:
    """Put two batches of observations one after the other."""
    if isinstance(first, dict):
        assert isinstance(second, dict)
        return {key: torch.cat([first[key], second[key]]) for key in first}
    assert isinstance(second, Tensor)
    return torch.cat([first, second])


def _halves(obs: PyTorchObs) -> tuple[PyTorchObs, PyTorchObs]:
    """Undo `_join`."""
    if isinstance(obs, dict):
        halves = {key: value.chunk(2) for key, value in obs.items()}
        return {key: half[0] for key, half in halves.items()}, {key: half[1] for key, half in halves.items()}
    now, later = obs.chunk(2)
    return now, later
