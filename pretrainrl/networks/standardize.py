"""Standardization of features, each by its own mean and standard deviation, which are measured once and then fixed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pretrainrl.errors import InputError

MIN_OBSERVATIONS = 32  # fewer say next to nothing about a standard deviation
LIMIT = 5.0
_SHARE = 0.01  # of the mean standard deviation, added to each one
_ROWS = 1024  # observations that are in memory as float64 at a time
_MEASURED = "the statistics of this neck were measured already, and stay what they are; make a new agent"


class Standardize(nn.Module):
    """Maps each feature x to clip((x - mean) / (std + 0.01 * mean of all std), -5, 5).

    Most of a frozen encoder's features describe a background that never changes. A norm across features leaves it there, and
    what moves is a thousandth of the input; standardized, what never changes is 0 and what moves is about 1.

    Until `fit`, features pass through unchanged. The statistics are buffers, so they are saved, loaded, copied and moved with
    the module, and no optimizer changes them. A feature that was constant is exactly 0 for as long as it stays what it was.

    Args:
        shape: Shape of one observation's features: (D,) of a vector, (C, H, W) of a map, whose elements are one feature each.

    Attributes:
        mean: Mean of each feature, float32 of `shape`.
        scale: Factor on each feature after its mean was subtracted, positive float32 of `shape`.
        fitted: Whether the statistics were measured, bool tensor without dimensions.
    """

    mean: Tensor
    scale: Tensor
    fitted: Tensor

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(*shape))
        self.register_buffer("scale", torch.ones(*shape))
        self.register_buffer("fitted", torch.tensor(False))
        self._known_fitted = False

    @property
    def is_fitted(self) -> bool:
        """Whether the statistics were measured. Once that is so, no device is asked again."""
        if not self._known_fitted:
            # However the buffers came to be filled: by `fit`, by a state that was loaded, or by a copy of each tensor.
            self._known_fitted = bool(self.fitted)
        return self._known_fitted

    def forward(self, features: Tensor) -> Tensor:
        """Map features (B, *shape) of any float dtype to float32 of the same shape."""
        features = features.float()
        if not self.is_fitted:
            return features
        return (features - self.mean).mul_(self.scale).clamp_(-LIMIT, LIMIT)

    @torch.no_grad()
    def fit(self, features: Tensor | Iterable[Tensor]) -> None:
        """Measure the statistics, in float64, batch by batch.

        Args:
            features: Features (N, *shape) of at least 32 observations, or batches of them, of any float dtype.

        Raises:
            InputError: When the statistics were measured already, or the features have another shape, are fewer than 32 or
                not all finite. Nothing is changed then.
        """
        if self.is_fitted:
            raise InputError(_MEASURED)
        moments = Moments(tuple(self.mean.shape))
        for batch in (features,) if isinstance(features, Tensor) else features:
            for rows in batch.split(_ROWS):
                moments.add(rows)
        if moments.count < MIN_OBSERVATIONS:
            raise InputError(
                f"the statistics of features need at least {MIN_OBSERVATIONS} observations, got {moments.count}; give it more"
            )
        self.set_statistics(moments.mean, moments.std)

    @torch.no_grad()
    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Take over statistics that were measured elsewhere.

        Args:
            mean: Mean of each feature, `shape` or flattened.
            std: Standard deviation of each feature, of the same shape, at least 0.

        Raises:
            InputError: When the statistics were measured already, or those given are of other features or not finite. Nothing
                is changed then.
        """
        if self.is_fitted:
            raise InputError(_MEASURED)
        if mean.numel() != self.mean.numel() or std.shape != mean.shape:
            raise InputError(
                f"expected statistics of {self.mean.numel()} features, {tuple(self.mean.shape)}, got means "
                f"{tuple(mean.shape)} and standard deviations {tuple(std.shape)}"
            )
        if not (torch.isfinite(mean).all() and torch.isfinite(std).all() and (std >= 0).all()):
            raise InputError("some statistics are not finite, or some standard deviations negative")
        divisor = std + _SHARE * std.mean()
        # Where nothing varies at all there is nothing to divide by, and differences from the mean are what they are.
        scale = torch.where(divisor > torch.finfo(torch.float32).tiny, divisor, 1).reciprocal()
        self.mean.copy_(mean.reshape(self.mean.shape))
        self.scale.copy_(scale.reshape(self.mean.shape))
        self.fitted.fill_(True)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *arguments: Any) -> None:
        """Load the statistics, whether or not they were measured where they come from."""
        self._known_fitted = False
        if f"{prefix}fitted" not in state_dict:
            errors = arguments[-1]
            errors.append(
                f"{prefix.rstrip('.')} standardizes features, and what is loaded has no statistics: it was saved with another "
                "neck. Make the agent with the neck and normalization that it was saved with, such as normalization='layer'."
            )
        super()._load_from_state_dict(state_dict, prefix, *arguments)

    def extra_repr(self) -> str:
        """Describe the features in `repr`."""
        return f"{tuple(self.mean.shape)}"


class Moments:
    """Mean and standard deviation of each feature, float64 on the CPU, of batches that come one by one.

    Args:
        shape: Shape of one observation's features.

    Attributes:
        count: Number of observations so far.
        mean: Mean of each feature, float64 of `shape`.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.count = 0
        self.mean = torch.zeros(shape, dtype=torch.float64)
        self._squares = torch.zeros(shape, dtype=torch.float64)
        self._origin: Tensor | None = None
        self._shift = torch.zeros(shape, dtype=torch.float64)

    @property
    def std(self) -> Tensor:
        """Standard deviation of each feature, float64 of `shape`; there must have been an observation."""
        return (self._squares / self.count).sqrt()

    def add(self, features: Tensor) -> None:
        """Add features (B, *shape), B at least 1.

        Raises:
            InputError: For another shape, or features that are not finite.
        """
        if features.shape[1:] != self.mean.shape:
            raise InputError(f"expected features (N, {', '.join(map(str, self.mean.shape))}), got {tuple(features.shape)}")
        if not len(features):
            return
        if not torch.isfinite(features).all():
            raise InputError("some features are not finite (NaN or infinite), so they have no mean; check what encodes them")
        values = features.float().cpu().double()  # an MPS device has no float64
        if self._origin is None:
            self._origin = values[0].clone()
        # Differences from the first observation are exactly 0 where nothing ever changes, and so is their mean's.
        values -= self._origin
        new, total = len(values), self.count + len(values)
        mean = values.mean(0)
        step = mean - self._shift
        self._squares += (values - mean).square_().sum(0) + step.square() * (self.count * new / total)
        self._shift += step * (new / total)
        self.mean = self._origin + self._shift
        self.count = total
