"""A frozen encoder that is shared rather than owned."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch

from pretrainrl.device import resolve_device, resolve_dtype
from pretrainrl.encoders import Encoder, cached_encoder
from pretrainrl.errors import InputError, WeightsError


class SharedEncoder:
    """Refers to this process's one frozen encoder of a name, on any device.

    Not a module: an agent or environment that holds one does not contain the weights, and copying or pickling it copies the
    name and the weights' digest.

    Args:
        name: name, run folder or card file, as `make_encoder` takes it.
        weights: instead of the card's, as `make_encoder` takes them.
        features: `flat` or `pooled`; the card's choice by default.
        dtype: of computation; `auto` is bfloat16 where the device has it in hardware, else float32.
        sha256: digest that the weights must have; by default those found first.

    Raises:
        InputError: for arguments that do not fit.
    """

    def __init__(
        self,
        name: str | Path,
        *,
        weights: str | Path | None = None,
        features: Literal["flat", "pooled"] | None = None,
        dtype: str | torch.dtype = "float32",
        sha256: str | None = None,
    ) -> None:
        if not isinstance(name, str | Path):
            raise InputError(
                f"expected an encoder's name or path, got {type(name).__name__}: saved agents and environments find it by name"
            )
        self.name = str(name)
        self._source: dict[str, Any] = {"name": name, "weights": weights, "features": features}
        self._dtype = dtype
        self._sha256 = sha256
        self._on: dict[torch.device, Encoder] = {}

    def on(self, device: str | torch.device) -> Encoder:
        """Return the encoder on `device`.

        Raises:
            UnknownNameError: when it is not registered.
            WeightsError: when its weights cannot be found, are damaged, do not fit, or are others than they were.
        """
        device = resolve_device(device)
        if device not in self._on:
            encoder = cached_encoder(**self._source, device=device, dtype=resolve_dtype(self._dtype, device))
            if self._sha256 not in (None, encoder.sha256):
                raise WeightsError(
                    f"encoder {encoder.name!r} has sha256 {encoder.sha256[:12]}... here, but what was saved with it was made "
                    f"with {self._sha256[:12]}...; give it the same weights"
                )
            self._sha256 = encoder.sha256
            self._on[device] = encoder
        return self._on[device]

    def __getstate__(self) -> dict[str, Any]:
        """What copies and pickles hold."""
        return {**self.__dict__, "_on": {}}
