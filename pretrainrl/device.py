"""What the machine can do."""

from __future__ import annotations

import torch

from pretrainrl.errors import InputError, UnknownNameError

PRECISIONS = ("auto", "32-true", "bf16-mixed")


def resolve_device(device: str | torch.device) -> torch.device:
    """Turn `auto` into the accelerator if there is one, and `cuda` into the current CUDA device.

    Raises:
        InputError: for a device that does not exist.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise InputError(f"unknown device {device!r}; expected 'auto', 'cpu' or 'cuda'") from error
    if resolved.type == "cuda" and not torch.cuda.is_available():
        raise InputError("there is no CUDA device here; take the device 'auto' or 'cpu'")
    if str(resolved) == "cuda":
        return torch.device("cuda", torch.cuda.current_device())
    return resolved


def has_native_bf16(device: str | torch.device) -> bool:
    """Say whether bfloat16 is computed in hardware there; where it is emulated, it is slower than float32."""
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    # torch has no public query for the processor; an older or newer torch without this one falls back to float32.
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return kind == "cpu" and bool(supported())


def resolve_dtype(dtype: str | torch.dtype, device: str | torch.device) -> torch.dtype:
    """Turn `auto` into bfloat16 where `device` computes it natively and float32 elsewhere, and a name into its dtype.

    Raises:
        InputError: for a name that is no dtype.
    """
    if dtype == "auto":
        return torch.bfloat16 if has_native_bf16(device) else torch.float32
    resolved = getattr(torch, str(dtype).removeprefix("torch."), None)
    if not isinstance(resolved, torch.dtype):
        raise InputError(f"unknown dtype {dtype!r}; expected 'auto', 'float32' or 'bfloat16'")
    return resolved


def resolve_precision(precision: str, device: str | torch.device) -> str:
    """Turn `auto` into `bf16-mixed` where `device` computes bfloat16 natively and `32-true` elsewhere; check another name.

    Raises:
        UnknownNameError: for another name than `auto`, `32-true` and `bf16-mixed`.
    """
    if precision == "auto":
        return "bf16-mixed" if has_native_bf16(device) else "32-true"
    if precision not in PRECISIONS:
        raise UnknownNameError.of("precision", str(precision), PRECISIONS)
    return precision
