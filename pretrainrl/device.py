"""What the machine can do, and the types in which things are computed on it."""

from __future__ import annotations

import logging
import warnings
from functools import cache

import torch
from torch import nn

from pretrainrl.errors import InputError, UnknownNameError

DTYPES = (torch.float32, torch.bfloat16)
PRECISIONS = ("auto", "32-true", "bf16-mixed")


def resolve_device(device: str | torch.device) -> torch.device:
    """Turn `auto` into the accelerator if there is one, and `cuda` into the current CUDA device; `cuda:1` is the second one.

    Raises:
        InputError: When the device does not exist.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        resolved = torch.device(device)
    except (RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"unknown device {device!r}; expected 'auto', 'cpu' or 'cuda'") from error
    if resolved.type == "cuda" and not torch.cuda.is_available():
        raise InputError("there is no CUDA device here; take the device 'auto' or 'cpu'")
    if resolved.type == "cuda" and torch.cuda._is_in_bad_fork():
        raise InputError(
            "this process was forked from one that uses CUDA, and cannot use it: wrap the vector environment instead of those "
            "in it, start its processes by 'spawn', or take the device 'cpu'"
        )
    if resolved.type == "cuda" and (resolved.index or 0) >= torch.cuda.device_count():
        raise InputError(f"there is no device {str(device)!r} here, but {torch.cuda.device_count()} CUDA devices")
    if resolved.type not in ("cpu", "cuda"):
        try:
            torch.zeros(1, device=resolved).item()
        except Exception as error:  # each kind of device has errors of its own, and `meta` holds no numbers
            raise InputError(
                f"nothing can be computed on the device {str(device)!r} here; expected 'auto', 'cpu' or 'cuda'"
            ) from error
    if str(resolved) == "cuda":
        return torch.device("cuda", torch.cuda.current_device())
    return resolved


def has_native_bf16(device: str | torch.device) -> bool:
    """Return whether `device` computes bfloat16 in hardware; where it is emulated, it is slower than float32."""
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    # torch has no public query for the processor; an older or newer torch without this one falls back to float32.
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return kind == "cpu" and bool(supported())


def resolve_dtype(dtype: str | torch.dtype, device: str | torch.device = "auto") -> torch.dtype:
    """Turn the type in which an encoder is to compute into a torch dtype.

    Args:
        dtype: `float32`, `bfloat16`, one of the two as a torch dtype, or `auto` for bfloat16 where `device` computes it in
            hardware and float32 elsewhere. What `auto` chooses is logged once.
        device: Device of the encoder; `auto` takes an accelerator if there is one.

    Raises:
        InputError: When an encoder cannot compute in this type.
    """
    if dtype == "auto":
        device = resolve_device(device)
        chosen = torch.bfloat16 if has_native_bf16(device) else torch.float32
        _log_choice(dtype_name(chosen), str(device))
        return chosen
    resolved = getattr(torch, str(dtype).removeprefix("torch."), None)
    if resolved not in DTYPES:
        raise InputError(f"unknown dtype {dtype!r}; it must be 'float32', 'bfloat16', or 'auto', which chooses one of them")
    assert isinstance(resolved, torch.dtype)
    return resolved


def dtype_name(dtype: torch.dtype) -> str:
    """Return the name of a torch dtype, such as `float32`."""
    return str(dtype).removeprefix("torch.")


@cache
def _log_choice(dtype: str, device: str) -> None:
    logging.getLogger("pretrainrl").warning(
        "dtype 'auto' is %s on %s; what learns from these features computes in %s everywhere", dtype, device, dtype
    )


def resolve_precision(precision: str, device: str | torch.device) -> str:
    """Turn `auto` into `bf16-mixed` where `device` computes bfloat16 in hardware and `32-true` elsewhere.

    Raises:
        UnknownNameError: When `precision` is none of `auto`, `32-true` and `bf16-mixed`.
    """
    if precision == "auto":
        return "bf16-mixed" if has_native_bf16(device) else "32-true"
    if precision not in PRECISIONS:
        raise UnknownNameError.of("precision", str(precision), PRECISIONS)
    return precision


def choose_precision(precision: str, extractor: nn.Module, device: torch.device) -> str:
    """Turn `auto` into the precision of an agent's updates: `bf16-mixed` where that pays, and `32-true` elsewhere.

    It pays where the device computes bfloat16 in hardware and convolutions are trained. Without those, as on features of a
    frozen encoder, layers are small, and converting their weights takes what faster products save.

    Raises:
        UnknownNameError: When `precision` is none of `auto`, `32-true` and `bf16-mixed`.
    """
    convolutions = [module for module in extractor.modules() if isinstance(module, nn.Conv2d)]
    if precision == "auto" and not any(layer.weight.requires_grad for layer in convolutions):
        return "32-true"
    return resolve_precision(precision, device)


def mixed_precision(precision: str, device: torch.device) -> torch.autocast:
    """Return the context in which networks compute: in bfloat16 for `bf16-mixed`, without effect for `32-true`."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16-mixed")


def warn_if_emulated(precision: str, device: torch.device) -> None:
    """Warn when updates are to use bfloat16 and the device has it in software only: results are the same, and slow."""
    if precision == "bf16-mixed" and not has_native_bf16(device):
        warnings.warn(
            f"{device} computes bfloat16 in software, slower than float32: precision='32-true' is faster here", stacklevel=3
        )
