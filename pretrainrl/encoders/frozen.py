"""Layers whose weights never change, computed as a CPU does it fastest, with the results of the layers that they replace."""

from __future__ import annotations

import platform
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn


def freeze(module: nn.Module, *, prepared: bool = True) -> None:
    """Stop gradients into `module`, in place.

    Args:
        module: Module that is never trained from here on, or until `thaw`.
        prepared: Whether its convolutions and ReLUs become prepared ones, which are faster on a CPU without gradients. They
            keep their parameters and names.
    """
    module.requires_grad_(False)
    _exchange_layers(module, _PREPARED if prepared else _ORDINARY)


def thaw(module: nn.Module) -> None:
    """Undo `freeze`."""
    module.requires_grad_(True)
    _exchange_layers(module, _ORDINARY)


def _exchange_layers(module: nn.Module, kinds: dict[type[nn.Module], type[nn.Module]]) -> None:
    for layer in module.modules():
        if type(layer) in kinds:
            layer.__class__ = kinds[type(layer)]
            vars(layer).pop("_packed", None)


class FrozenConv2d(nn.Conv2d):
    """A convolution that lays its weights out for the CPU's kernel once; in `nn.Conv2d` that happens at every call.

    For a ResNet-50 and one observation that is a quarter of the time.
    """

    _packed: tuple[tuple[int, int], Tensor] | None = None

    def forward(self, input: Tensor) -> Tensor:
        """Convolve (B, C, H, W)."""
        if not self._can_pack(input):
            return super().forward(input)
        geometry = self.padding, self.stride, self.dilation, self.groups
        kept = self._packed
        # Weights made in inference mode count no changes.
        state = 0 if self.weight.is_inference() else self.weight._version, self.weight.data_ptr()
        if kept is None or kept[0] != state:
            packed = torch.ops.mkldnn._reorder_convolution_weight(self.weight, *geometry, input.shape)
            kept = self._packed = state, packed
        convolved: Tensor = torch.ops.mkldnn._convolution_pointwise(input, kept[1], self.bias, *geometry, "none", [], "")
        return convolved

    def _can_pack(self, input: Tensor) -> bool:
        return (
            input.device.type == "cpu"
            and input.dtype == self.weight.dtype
            and _packs(input.dtype)
            and self.padding_mode == "zeros"
            and not isinstance(self.padding, str)
            and input.is_contiguous(memory_format=torch.channels_last)
            and _runs_eagerly()
        )

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the other layout of the weights, which cannot be copied or pickled."""
        return {name: value for name, value in vars(self).items() if name != "_packed"}


class FrozenReLU(nn.ReLU):
    """A ReLU that treats bfloat16 as integers of 16 bits, whose sign is the same; PyTorch computes them as float32.

    On a CPU without gradients only. NaN with the sign bit set becomes 0.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Replace what is negative by 0."""
        if input.dtype != torch.bfloat16 or input.device.type != "cpu" or not _runs_eagerly():
            return super().forward(input)
        bits = input.view(torch.int16)
        return (bits.clamp_min_(0) if self.inplace else bits.clamp_min(0)).view(torch.bfloat16)


_PREPARED: dict[type[nn.Module], type[nn.Module]] = {nn.Conv2d: FrozenConv2d, nn.ReLU: FrozenReLU}
_ORDINARY = {prepared: ordinary for ordinary, prepared in _PREPARED.items()}


def _runs_eagerly() -> bool:
    """Whether neither a gradient may be asked for nor a compiler is looking."""
    return not torch.is_grad_enabled() and not torch.compiler.is_compiling()


@cache
def _packs(dtype: torch.dtype) -> bool:
    """Whether PyTorch can lay out weights of `dtype` here: with oneDNN's kernels on x86, as its own compiler uses them."""
    known = all(hasattr(torch.ops.mkldnn, name) for name in ("_reorder_convolution_weight", "_convolution_pointwise"))
    has_mkldnn: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if not known or not has_mkldnn or platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()))
