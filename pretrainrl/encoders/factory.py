"""Making encoders: from a name to a frozen, verified encoder, and the process's shared one of each name."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn

from pretrainrl.arguments import check_seed
from pretrainrl.cards import BACKBONES, EncoderCard, Weights, find_card, find_encoder
from pretrainrl.device import resolve_device, resolve_dtype
from pretrainrl.encoders.encoder import Encoder
from pretrainrl.errors import CardError, InputError, WeightsError
from pretrainrl.forked import leave_parent_threads
from pretrainrl.registry import import_target
from pretrainrl.weights import ATARI_PB, ATARI_PB_URL, fetch, parse_tensors, resolve_source, state_dict_errors

Features = Literal["flat", "pooled"]
MAX_PARAMETERS = 2**30  # four gigabytes; a card's options are data, and could ask for any number


def make_backbone(name: str, *, seed: int = 0, **options: Any) -> nn.Module:
    """Build an untrained backbone without touching the global random state.

    Args:
        name: Registered name; or, in a call that means to run this code, `package.module:Class`.
        seed: Seed of the weights.
        options: Keyword arguments of the class.

    Raises:
        UnknownNameError: When the name is not registered.
        InputError: When the class refuses the options, the target is no module, or the module would be enormous.
    """
    target = import_target(BACKBONES.get(name).target if name in BACKBONES or ":" not in name else name, nn.Module)
    check_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # the CPU's alone: torch.manual_seed would reseed accelerators too
        try:
            if options and (size := _size_of(target, options)) > MAX_PARAMETERS:
                raise InputError(f"backbone {name!r} would have {size:,} parameters with the options {options}")
            backbone: nn.Module = target(**options)
        except InputError:
            raise
        except (ArithmeticError, MemoryError, RuntimeError, TypeError, ValueError) as error:
            reason = str(error).partition("\n")[0]
            raise InputError(f"backbone {name!r} refuses its options {options}: {reason}") from error
    return backbone


def _size_of(target: type[nn.Module], options: dict[str, Any]) -> int:
    """Return the number of parameters that a backbone would have, without memory for them; 0 if that cannot be told."""
    try:
        with torch.device("meta"):
            return sum(parameter.numel() for parameter in target(**options).parameters())
    except NotImplementedError:  # of operations that need values
        return 0


def make_encoder(
    name: str | Path,
    *,
    weights: str | Path | None = None,
    device: str | torch.device = "cpu",
    dtype: str | torch.dtype = "float32",
    features: Features | None = None,
    trainable: bool = False,
    prepared: bool = True,
) -> Encoder:
    """Make an encoder by name: frozen, in eval mode, its weights verified. The process's random state is not changed.

    Args:
        name: Registered name or alias, a run folder of `pretrain`, or a card file.
        weights: Weights instead of the card's: a path, `hf://<org>/<repo>/<file>@<revision>`, `atari-pb:<path>` for a
            checkpoint of Atari-PB, whose width multiplier is read from its tensors, or `random` for an untrained copy.
        device: Device of the encoder; `auto` takes an accelerator if there is one.
        dtype: Type of computation and features: `float32`, `bfloat16` for speed (see `Encoder`), one of the two as a torch
            dtype, or `auto` for bfloat16 where the device has it in hardware.
        features: Kind of features, `flat` or `pooled`; the card's choice by default.
        trainable: Whether gradients flow and weights change, for end-to-end training.
        prepared: Whether a frozen encoder's convolutions and ReLUs are prepared for the CPU once, rather than at every call.
            Features are the same without, and slower to compute; the layers are then PyTorch's own classes.

    Raises:
        UnknownNameError: When the name is not registered.
        WeightsError: When weights cannot be found, are damaged, or do not fit.
        InputError: When the dtype, kind of features or source does not exist.
    """
    leave_parent_threads()
    device = resolve_device(device)
    dtype = resolve_dtype(dtype, device)
    card = find_card(name)
    stored = _read_weights(card, str(weights) if weights is not None else None)
    if stored is not None and stored.width is not None:
        card = _at_width(card, stored.width)
    backbone = make_backbone(card.backbone, seed=card.weights.seed or 0, **dict[str, Any](card.backbone_options))
    shape = tuple(getattr(backbone, "feature_map_shape", ()))
    if shape != card.feature_map_shape:
        raise CardError(f"card {card.name}: feature_map_shape is {card.feature_map_shape}, but {card.backbone} gives {shape}")
    if stored is not None:
        load_tensors(backbone, stored.tensors, stored.where)
    sha256 = tensors_sha256(backbone.state_dict()) if stored is None else stored.sha256
    encoder = Encoder(backbone, card, sha256, dtype=dtype, features=features, trainable=trainable, prepared=prepared)
    return encoder.to(device)


_KEPT = 8  # encoders that stay in memory although nothing holds them any more
_shared: WeakValueDictionary[Hashable, Encoder] = WeakValueDictionary()
_kept: deque[Encoder] = deque(maxlen=_KEPT)  # the one asked for last comes last


def cached_encoder(
    name: str | Path,
    *,
    weights: str | Path | None = None,
    device: str | torch.device = "cpu",
    dtype: str | torch.dtype = "float32",
    features: Features | None = None,
) -> Encoder:
    """Return this process's one frozen encoder for these arguments, which are those of `make_encoder`.

    However many networks and wrappers hold it, the weights are in memory once. Of encoders that nothing holds, the last eight
    asked for are kept; `clear_encoder_cache` lets them go. What is returned must not be changed.
    """
    device = resolve_device(device)
    dtype = resolve_dtype(dtype, device)
    name = find_encoder(name)
    # The card's weights are a part of the key, so that a name whose card was replaced stands for the new weights.
    key = (name, find_card(name).weights, weights and resolve_source(weights), device, dtype, features)
    encoder = _shared.get(key)
    if encoder is None:
        encoder = _shared[key] = make_encoder(name, weights=weights, device=device, dtype=dtype, features=features)
    elif encoder in _kept:
        _kept.remove(encoder)
    _kept.append(encoder)
    return encoder


def clear_encoder_cache() -> None:
    """Forget the encoders that this process shares, so that the memory of those that nothing holds is freed.

    Agents and environments keep the encoders that they hold; the next one made reads its weights anew.
    """
    _shared.clear()
    _kept.clear()


@dataclass(frozen=True)
class _Stored:
    """Weights as a file has them: tensors, the digest that identifies them, the file, and the width that a checkpoint has."""

    tensors: dict[str, Tensor]
    sha256: str
    where: str
    width: float | None = None


def read_backbone(card: EncoderCard) -> tuple[dict[str, Tensor], str]:
    """Return the tensors of an encoder's backbone, and the digest of its weights.

    Raises:
        WeightsError: When weights cannot be found, are damaged, or do not fit.
    """
    backbone = make_backbone(card.backbone, seed=card.weights.seed or 0, **card.backbone_options)
    stored = _read_weights(card, None)
    if stored is not None:
        load_tensors(backbone, stored.tensors, stored.where)
    tensors = backbone.state_dict()
    return tensors, tensors_sha256(tensors) if stored is None else stored.sha256


def _read_weights(card: EncoderCard, override: str | None) -> _Stored | None:
    """Read the weights that are asked for; None for an untrained backbone."""
    if override == "random" or (override is None and card.weights.seed is not None):
        return None
    if override is None and card.weights.manual:
        raise WeightsError(
            f"the weights of {card.name} do not come with this package; get {card.weights.sources[0].removeprefix(ATARI_PB)} "
            f'from the authors ({ATARI_PB_URL}) and pass weights="{ATARI_PB}<path to it>"'
        )
    source = card.weights if override is None else Weights.model_construct(sources=(override,))
    file = fetch(source.sources, source.sha256, source.bytes)
    if not source.manual:
        return _Stored(parse_tensors(file), file.sha256, str(file.path))
    from pretrainrl.encoders.atari_pb import parse_checkpoint, resnet50_tensors

    if card.backbone != "resnet50":
        raise WeightsError(f"{file.path} holds a ResNet-50, and {card.name} is made of {card.backbone!r}")
    width, tensors = resnet50_tensors(parse_checkpoint(file)["backbone"], str(file.path))
    return _Stored(tensors, file.sha256, str(file.path), width)


def _at_width(card: EncoderCard, width: float) -> EncoderCard:
    """Return the card of a ResNet-50 with another width multiplier."""
    shape = (round(2048 * width), *card.feature_map_shape[1:])
    return card.model_copy(update={"backbone_options": {"width": width}, "feature_map_shape": shape})


def load_tensors(backbone: nn.Module, tensors: dict[str, Tensor], where: str) -> None:
    """Copy `tensors` into `backbone`, casting to its dtypes.

    Raises:
        WeightsError: When a tensor is missing, unexpected, misshapen or not finite; the message names every one.
    """
    if wrong := state_dict_errors(backbone.state_dict(), tensors):
        raise WeightsError(f"{where} does not fit the backbone: {', '.join(wrong)}")
    backbone.load_state_dict(tensors)


def tensors_sha256(tensors: dict[str, Tensor]) -> str:
    """Return the sha256 of the names and bytes of `tensors`, in their order, as 64 hex digits."""
    digest = hashlib.sha256()
    for key, tensor in tensors.items():
        digest.update(key.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
