"""What an agent's updates are computed in."""

from __future__ import annotations

import warnings

import torch
from torch import nn

from pretrainrl.device import has_native_bf16, resolve_precision


def choose_precision(precision: str, extractor: nn.Module, device: torch.device) -> str:
    """Turn `auto` into `bf16-mixed` where that pays, and `32-true` elsewhere; check another name.

    It pays where the device computes bfloat16 in hardware and convolutions are trained. Without those, as on features of a
    frozen encoder, layers are small, and converting their weights takes what faster products save.

    Raises:
        UnknownNameError: for another name than `auto`, `32-true` and `bf16-mixed`.
    """
    convolutions = [module for module in extractor.modules() if isinstance(module, nn.Conv2d)]
    if precision == "auto" and not any(layer.weight.requires_grad for layer in convolutions):
        return "32-true"
    return resolve_precision(precision, device)


def mixed_precision(precision: str, device: torch.device) -> torch.autocast:
    """Make the context in which networks compute: bfloat16 for `bf16-mixed`, without effect for `32-true`."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16-mixed")


def warn_if_emulated(precision: str, device: torch.device) -> None:
    """Warn where bfloat16 is asked for and the device has it only in software; results are the same, and slow."""
    if precision == "bf16-mixed" and not has_native_bf16(device):
        warnings.warn(
            f"{device} computes bfloat16 in software, slower than float32: precision='32-true' is faster here", stacklevel=3
        )
