"""Values as distributions over fixed atoms (C51; Bellemare et al., 2017, https://arxiv.org/abs/1707.06887)."""

from __future__ import annotations

import torch
from torch import Tensor

from pretrainrl.errors import InputError


def make_support(atoms: int = 51, low: float = -10.0, high: float = 10.0) -> Tensor:
    """Return the atoms, equally spaced from `low` to `high`: (atoms,) float32.

    Raises:
        InputError: When there are fewer than two atoms, `low` is not below `high`, or float32 cannot tell the atoms apart.
    """
    if not (atoms >= 2 and low < high):
        raise InputError(f"a support needs two atoms or more and low < high, got {atoms=}, {low=}, {high=}")
    if max(-low, high) < torch.finfo(torch.float32).max:
        support = torch.linspace(low, high, atoms, device="cpu")  # whatever the default device is, which may hold no numbers
        atoms_per_unit = (atoms - 1) / (support[-1] - support[0])
        if (support.diff() > 0).all() and 0 < atoms_per_unit < torch.inf:
            return torch.linspace(low, high, atoms)
    raise InputError(f"float32 cannot tell the atoms of a support apart, got {atoms=}, {low=}, {high=}")


def expected_value(logits: Tensor, support: Tensor) -> Tensor:
    """Return the mean (...) of each distribution, of logits (..., atoms) on the support (atoms,)."""
    return logits.softmax(dim=-1) @ support


def project(probabilities: Tensor, returns: Tensor, discounts: Tensor, support: Tensor) -> Tensor:
    """Return the distribution of `returns + discounts * Z` for Z on the support, brought back onto the support's atoms.

    Every moved atom is clipped to the support's range and shares its mass between its two neighbors, the nearer getting
    more, neither less than none. All rows go in one scatter.

    Args:
        probabilities: Probabilities of Z, (B, atoms) float.
        returns: Returns, (B,) float.
        discounts: Discounts, (B,) float; 0 where nothing follows.
        support: Atoms, (atoms,) float, equally spaced.

    Returns:
        (B, atoms) float; rows sum to what those of `probabilities` do.
    """
    low, high, last = support[0], support[-1], len(support) - 1
    moved = returns.unsqueeze(1) + discounts.unsqueeze(1) * support
    # Clipped last: the position of the upper bound itself can be rounded up to more than the last atom's.
    position = ((moved - low) * (last / (high - low))).clamp(0, last)
    below = position.floor().clamp(max=last - 1)  # so that a right neighbor exists
    share = position - below
    index = torch.cat([below, below + 1], dim=1).long()
    mass = torch.cat([probabilities * (1 - share), probabilities * share], dim=1)
    return torch.zeros_like(probabilities).scatter_add_(1, index, mass)


def distribution_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Return the cross-entropy (B,) of each target distribution, of logits and probabilities (B, atoms).

    From log-softmax: the logarithm of a softmax is -inf where it underflows.
    """
    return -(target * logits.log_softmax(dim=-1)).sum(dim=-1)
