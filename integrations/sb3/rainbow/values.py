"""What a Q-network's outputs say of returns: their mean alone, fixed atoms' probabilities, or quantiles."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretrainrl.errors import InputError, UnknownNameError
from pretrainrl.networks import c51

Distributional = Literal["c51", "quantile"]


class Values(nn.Module, ABC):
    """One way to read `size` outputs for each action."""

    size: int

    @abstractmethod
    def mean(self, outputs: Tensor) -> Tensor:
        """Expected returns: (..., size) give (...)."""

    @abstractmethod
    def losses(self, outputs: Tensor, following: Tensor, rewards: Tensor, discounts: Tensor) -> tuple[Tensor, Tensor]:
        """Compare returns with what they ought to be, `rewards + discounts * following`.

        Args:
            outputs: (B, size) float, of the actions taken.
            following: (B, size) float without gradient, of the best actions after them.
            rewards: (B,) float, sums of n discounted rewards.
            discounts: (B,) float; 0 where nothing follows.

        Returns:
            The samples' losses (B,), and their priorities in replay (B,), which have no gradient and are not negative.
        """


class ScalarValues(Values):
    """Expected returns only, as in DQN: Huber loss. The priority is the TD error's size."""

    size = 1

    def mean(self, outputs: Tensor) -> Tensor:
        """Expected returns: (..., 1) give (...)."""
        return outputs.squeeze(-1)

    def losses(self, outputs: Tensor, following: Tensor, rewards: Tensor, discounts: Tensor) -> tuple[Tensor, Tensor]:
        """See `Values.losses`."""
        predicted, target = self.mean(outputs), rewards + discounts * self.mean(following)
        return F.smooth_l1_loss(predicted, target, reduction="none"), (target - predicted.detach()).abs()


class CategoricalValues(Values):
    """Logits of probabilities of fixed atoms (C51): cross-entropy, which is the priority too, as in Rainbow."""

    support: Tensor

    def __init__(self, n_atoms: int, v_min: float, v_max: float) -> None:
        super().__init__()
        self.size = n_atoms
        self.register_buffer("support", c51.make_support(n_atoms, v_min, v_max))

    def mean(self, outputs: Tensor) -> Tensor:
        """Expected returns: (..., n_atoms) logits give (...)."""
        return c51.expected_value(outputs, self.support)

    def losses(self, outputs: Tensor, following: Tensor, rewards: Tensor, discounts: Tensor) -> tuple[Tensor, Tensor]:
        """See `Values.losses`."""
        target = c51.project(following.softmax(dim=-1), rewards, discounts, self.support)
        losses = c51.distribution_loss(outputs, target)
        return losses, losses.detach()


class QuantileValues(Values):
    """Quantiles at the middles of equal shares of probability (QR-DQN): quantile Huber loss, which is the priority too."""

    midpoints: Tensor

    def __init__(self, n_quantiles: int) -> None:
        super().__init__()
        if n_quantiles < 1:
            raise InputError(f"n_quantiles must be positive, got {n_quantiles}")
        self.size = n_quantiles
        self.register_buffer("midpoints", (torch.arange(n_quantiles) + 0.5) / n_quantiles)

    def mean(self, outputs: Tensor) -> Tensor:
        """Expected returns: (..., n_quantiles) give (...)."""
        return outputs.mean(dim=-1)

    def losses(self, outputs: Tensor, following: Tensor, rewards: Tensor, discounts: Tensor) -> tuple[Tensor, Tensor]:
        """See `Values.losses`; summed over quantiles and averaged over the target's, as in the paper."""
        targets = rewards.unsqueeze(1) + discounts.unsqueeze(1) * following
        errors = targets.unsqueeze(1) - outputs.unsqueeze(2)  # (B, quantile, target's quantile)
        huber = F.smooth_l1_loss(errors, torch.zeros_like(errors), reduction="none")
        weights = (self.midpoints.unsqueeze(1) - (errors.detach() < 0).float()).abs()
        losses = (weights * huber).sum(dim=1).mean(dim=1)
        return losses, losses.detach()


def make_values(
    distributional: Distributional | None, *, n_atoms: int, n_quantiles: int, v_min: float, v_max: float
) -> Values:
    """Make the reading of that name; None is that of DQN.

    Raises:
        InputError: for impossible atoms or quantiles.
        UnknownNameError: for another name.
    """
    if distributional is None:
        return ScalarValues()
    if distributional == "c51":
        return CategoricalValues(n_atoms, v_min, v_max)
    if distributional == "quantile":
        return QuantileValues(n_quantiles)
    raise UnknownNameError.of("distributional", str(distributional), ("c51", "quantile", "None"))
