"""Heads from features to `size` outputs for each action, and their reading as returns: scalars, atoms or quantiles."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretrainrl.errors import InputError, UnknownNameError
from pretrainrl.networks import c51


class NoisyLinear(nn.Linear):
    """Linear layer whose weights have factorized Gaussian noise of learned size (https://arxiv.org/abs/1706.10295).

    Without noise, as at first and after `eval()`, it computes with the means `weight` and `bias`. The noise of a weight is
    the product of one number of its input and one of its output, so it is put on those; noisy weights are never made,
    and every row of a batch may have a noise of its own.

    Args:
        in_features: Width of the input.
        out_features: Width of the output.
        sigma: Initial size of the noise, before division by the square root of `in_features`.
    """

    def __init__(self, in_features: int, out_features: int, sigma: float = 0.5) -> None:
        super().__init__(in_features, out_features)  # draws both means as the paper does
        initial = sigma / in_features**0.5
        self.weight_sigma = nn.Parameter(torch.full_like(self.weight, initial))
        self.bias_sigma = nn.Parameter(torch.full_like(self.bias, initial))
        self.noise: tuple[Tensor, Tensor] | None = None  # (rows, in_features), (rows, out_features)

    def train(self, mode: bool = True) -> NoisyLinear:
        """Set the mode; evaluation is without noise."""
        if not mode:
            self.noise = None
        return super().train(mode)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_features) to (B, out_features)."""
        if self.noise is None:
            return _linear(x, self.weight, self.bias)
        inputs, outputs = self.noise
        means, sigmas = (self.weight, self.bias), (self.weight_sigma, self.bias_sigma)
        if len(inputs) == 1 and _in_float32(x):
            noisy: Tensor = _NoisyProduct.apply(x, *means, *sigmas, inputs, outputs)
            return noisy
        return torch.addcmul(_linear(x, *means), _linear(x * inputs, *sigmas), outputs)


class _NoisyProduct(torch.autograd.Function):
    """What `NoisyLinear` computes where all rows have the same noise.

    A weight's gradient times its noise is then the gradient of the noise's size: backward needs one large product less
    than autograd's own.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        weight_sigma: Tensor,
        bias_sigma: Tensor,
        inputs: Tensor,
        outputs: Tensor,
    ) -> Tensor:
        """Map x (B, in_features) to (B, out_features) with noise (1, in_features) and (1, out_features)."""
        ctx.save_for_backward(x, weight, weight_sigma, inputs, outputs)
        return torch.addcmul(_linear(x, weight, bias), _linear(x * inputs, weight_sigma, bias_sigma), outputs)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of x, of the means and of the noise's sizes."""
        x, weight, weight_sigma, inputs, outputs = ctx.saved_tensors
        (grad,) = grad_outputs
        grad_weight, grad_bias = grad.t() @ x, grad.sum(dim=0)
        grad_sigma = (grad_weight * inputs).mul_(outputs.t())
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = torch.addcmul(grad @ weight, (grad * outputs) @ weight_sigma, inputs)
        return grad_x, grad_weight, grad_bias, grad_sigma, grad_bias * outputs[0], None, None


def _linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return what `F.linear` returns.

    With few rows, MKL is two to three times as fast at the transposed product in float32, as measured with 32 rows and a
    3136x512 layer on an Intel processor with AVX-512.
    """
    if x.device.type == "cpu" and _in_float32(x):
        return torch.addmm(bias.unsqueeze(1), weight, x.t()).t()
    return F.linear(x, weight, bias)


def _in_float32(x: Tensor) -> bool:
    """Return whether products with `x` are computed in float32."""
    return x.dtype == torch.float32 and not torch.is_autocast_enabled(x.device.type)


def draw_noise(layers: Sequence[NoisyLinear], rows: int = 1) -> None:
    """Draw noise for a batch of `rows`, each with its own, or one for all rows of any batch.

    All layers' noise is drawn at once, because there are many of them and each is small.
    """
    if not layers:
        return
    widths = [width for layer in layers for width in (layer.in_features, layer.out_features)]
    normal = torch.randn(rows, sum(widths), device=layers[0].weight.device)
    parts = torch.split(normal.sign() * normal.abs().sqrt(), widths, dim=1)  # the paper's f(x) = sign(x) sqrt(|x|)
    for layer, inputs, outputs in zip(layers, parts[::2], parts[1::2], strict=True):
        layer.noise = inputs, outputs


class ActionHead(nn.Module):
    """Layers after the features, with `size` outputs for each action.

    The dueling head (https://arxiv.org/abs/1511.06581) has two streams, of the state's value and of the actions' advantages,
    and adds to the first what the second has above its mean over actions; with distributions, output by output.

    Args:
        features_dim: Width of the input.
        n_actions: Number of actions.
        size: Number of outputs for each action.
        net_arch: Widths of hidden layers, of each stream.
        activation_fn: Activation after hidden layers.
        dueling: Whether there are two streams rather than one.
        noisy: Whether layers are `NoisyLinear` ones rather than linear ones.
    """

    def __init__(
        self,
        features_dim: int,
        n_actions: int,
        size: int,
        net_arch: Sequence[int],
        activation_fn: type[nn.Module],
        *,
        dueling: bool,
        noisy: bool,
    ) -> None:
        super().__init__()
        self.n_actions, self.size = n_actions, size
        linear = NoisyLinear if noisy else nn.Linear
        self.advantage = _stream(features_dim, n_actions * size, net_arch, activation_fn, linear)
        self.value = _stream(features_dim, size, net_arch, activation_fn, linear) if dueling else None

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, features_dim) to (B, n_actions, size)."""
        outputs: Tensor = self.advantage(features).view(-1, self.n_actions, self.size)
        if self.value is None:
            return outputs
        value: Tensor = self.value(features).unsqueeze(1)
        return value + outputs - outputs.mean(dim=1, keepdim=True)


def _stream(
    width: int, outputs: int, net_arch: Sequence[int], activation_fn: type[nn.Module], linear: type[nn.Linear]
) -> nn.Sequential:
    """Make hidden layers with activations, and a last layer without."""
    layers: list[nn.Module] = []
    for hidden in net_arch:
        layers += [linear(width, hidden), activation_fn()]
        width = hidden
    return nn.Sequential(*layers, linear(width, outputs))


Distributional = Literal["c51", "quantile"]


class ReturnHead(nn.Module, ABC):
    """Reading of `size` outputs for each action as returns."""

    size: int

    @abstractmethod
    def mean(self, outputs: Tensor) -> Tensor:
        """Return the expected returns (...) of outputs (..., size)."""

    @abstractmethod
    def losses(self, outputs: Tensor, following: Tensor, rewards: Tensor, discounts: Tensor) -> tuple[Tensor, Tensor]:
        """Compare returns with what they ought to be, `rewards + discounts * following`.

        Args:
            outputs: Outputs (B, size) float, of the actions taken.
            following: Outputs (B, size) float without gradient, of the best actions after them.
            rewards: Sums of n discounted rewards, (B,) float.
            discounts: Discounts, (B,) float; 0 where nothing follows.

        Returns:
            The samples' losses (B,), and their priorities in replay (B,), which have no gradient and are not negative.
        """


class ScalarHead(ReturnHead):
    """Expected returns only, as in DQN: Huber loss. The priority is the TD error's size."""

    size = 1

    def mean(self, outputs: Tensor) -> Tensor:
        """Return the expected returns (...) of outputs (..., 1)."""
        return outputs.squeeze(-1)

    def losses(self, outputs: Tensor, following: Tensor, rewards: Tensor, discounts: Tensor) -> tuple[Tensor, Tensor]:
        """See `ReturnHead.losses`."""
        predicted, target = self.mean(outputs), rewards + discounts * self.mean(following)
        return F.smooth_l1_loss(predicted, target, reduction="none"), (target - predicted.detach()).abs()


class CategoricalHead(ReturnHead):
    """Logits of probabilities of fixed atoms (C51): cross-entropy, which is the priority too, as in Rainbow."""

    support: Tensor

    def __init__(self, n_atoms: int, v_min: float, v_max: float) -> None:
        super().__init__()
        self.size = n_atoms
        # Not among the weights: what is loaded must not change which returns the agent can represent.
        self.register_buffer("support", c51.make_support(n_atoms, v_min, v_max), persistent=False)

    def mean(self, outputs: Tensor) -> Tensor:
        """Return the expected returns (...) of logits (..., n_atoms)."""
        return c51.expected_value(outputs, self.support)

    def losses(self, outputs: Tensor, following: Tensor, rewards: Tensor, discounts: Tensor) -> tuple[Tensor, Tensor]:
        """See `ReturnHead.losses`."""
        target = c51.project(following.softmax(dim=-1), rewards, discounts, self.support)
        losses = c51.distribution_loss(outputs, target)
        return losses, losses.detach()


class QuantileHead(ReturnHead):
    """Quantiles at the middles of equal shares of probability (QR-DQN): quantile Huber loss, which is the priority too."""

    midpoints: Tensor

    def __init__(self, n_quantiles: int) -> None:
        super().__init__()
        if n_quantiles < 1:
            raise InputError(f"n_quantiles must be positive, got {n_quantiles}")
        self.size = n_quantiles
        self.register_buffer("midpoints", (torch.arange(n_quantiles) + 0.5) / n_quantiles, persistent=False)

    def mean(self, outputs: Tensor) -> Tensor:
        """Return the expected returns (...) of quantiles (..., n_quantiles)."""
        return outputs.mean(dim=-1)

    def losses(self, outputs: Tensor, following: Tensor, rewards: Tensor, discounts: Tensor) -> tuple[Tensor, Tensor]:
        """See `ReturnHead.losses`; summed over quantiles and averaged over the target's, as in the paper."""
        targets = rewards.unsqueeze(1) + discounts.unsqueeze(1) * following
        errors = targets.unsqueeze(1) - outputs.unsqueeze(2)  # (B, quantile, target's quantile)
        huber = F.smooth_l1_loss(errors, torch.zeros_like(errors), reduction="none")
        weights = (self.midpoints.unsqueeze(1) - (errors.detach() < 0).float()).abs()
        losses = (weights * huber).sum(dim=1).mean(dim=1)
        return losses, losses.detach()


def make_return_head(
    distributional: Distributional | None, *, n_atoms: int, n_quantiles: int, v_min: float, v_max: float
) -> ReturnHead:
    """Make the head that reads outputs as returns; None reads them as DQN does.

    Raises:
        InputError: When the atoms or quantiles are impossible.
        UnknownNameError: When the name is none of these.
    """
    if distributional is None:
        return ScalarHead()
    if distributional == "c51":
        return CategoricalHead(n_atoms, v_min, v_max)
    if distributional == "quantile":
        return QuantileHead(n_quantiles)
    raise UnknownNameError.of("distributional", str(distributional), ("c51", "quantile", "None"))
