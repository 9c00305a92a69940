"""A checkpoint of the Atari-PB study becomes the objective that it was trained with."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from pretrainrl.encoders import make_backbone
from pretrainrl.encoders.atari_pb import Networks, read_checkpoint, resnet50_tensors
from pretrainrl.errors import UnknownNameError, WeightsError
from pretrainrl.objectives import make_objective
from pretrainrl.objectives.objective import Objective
from pretrainrl.parity.names import own_name
from pretrainrl.weights import misfits

ATOMS = 51
ALIASES = {"cql_dist": "cql_d", "cql_mse": "cql_m"}
OBJECTIVES = ("curl", "mae", "atc", "siammae", "r3m", "bc", "spr", "idm", "spr_idm", "dt", "cql_d", "cql_m")
_BACKBONES = ("backbone", "target_backbone")


def load_objective(path: Path, name: str | None = None) -> tuple[str, Objective]:
    """Return the name of a checkpoint's objective and the objective with the checkpoint's weights, not augmenting.

    All sizes are read from the tensors; attention has 4 heads and C51 51 atoms, as in the study.

    Args:
        path: of the checkpoint.
        name: of the objective; by default told from the file's name, or from the tensors.

    Raises:
        WeightsError: when the file is no such checkpoint, or with every tensor that is missing, unexpected, misshapen or not
            finite.
        UnknownNameError: when `name` is no objective.
    """
    networks = read_checkpoint(path)
    name = objective_name(path.stem, networks) if name is None else ALIASES.get(name, name)
    if name not in OBJECTIVES:
        raise UnknownNameError.of("objective", name, OBJECTIVES)
    width, backbone = resnet50_tensors(networks["backbone"], str(path))
    try:
        objective = make_objective(
            name,
            encoder=make_backbone("resnet50", width=width),
            num_games=len(networks["neck"]["spatial_embed.weight"]),
            augmentation=False,
            **_sizes(name, networks),
        )
    except KeyError as error:
        raise WeightsError(f"{path} is not a checkpoint of {name}: {error.args[0]} is missing") from error
    tensors = {f"backbone.{key}": tensor for key, tensor in backbone.items()}
    if "target_backbone" in networks:
        _, target = resnet50_tensors(networks["target_backbone"], f"{path}, target_backbone")
        tensors |= {f"target_backbone.{key}": tensor for key, tensor in target.items()}
    tensors |= _renamed(name, networks)
    fixed = {key: buffer for key, buffer in objective.named_buffers() if key.endswith("positions")}
    if wrong := misfits({**objective.state_dict(), **fixed}, tensors):
        raise WeightsError(f"{path} is not a checkpoint of {name}: {', '.join(wrong)}")
    for key, buffer in fixed.items():
        if (tensors.pop(key) - buffer).abs().max() > 1e-4:
            raise WeightsError(f"{path} is not a checkpoint of {name}: {key} are not sin-cos positions")
    objective.load_state_dict(tensors)
    return name, objective


def objective_name(stem: str, networks: Networks) -> str:
    """Tell the objective from the file's name without its ending, or else from the tensors.

    Raises:
        WeightsError: when neither tells.
    """
    for name in sorted((*OBJECTIVES, *ALIASES), key=len, reverse=True):
        if re.search(rf"(?<![a-z]){name}(?![a-z])", stem.lower()):
            return ALIASES.get(name, name)
    return _told_by_tensors(stem, networks)


def _told_by_tensors(stem: str, networks: Networks) -> str:
    neck, head = networks.get("neck", {}), networks.get("head", {})
    if "target_head" in networks:
        return "cql_d" if head["biases.weight"].shape[1] % ATOMS == 0 else "cql_m"
    if "idm_w1.weight" in head:
        return "spr_idm"
    if "action_embed.weight" in head:
        return "spr"
    if "act_embedder.weight" in neck:
        return "dt"
    if "recon_w.weight" in head:
        return "siammae" if any(".fn.q_embed." in key for key in head) else "mae"
    if "target_neck" not in networks and {"weights.weight", "biases.weight"} <= head.keys():
        inputs = head["weights.weight"].shape[1] // head["biases.weight"].shape[1]
        return "bc" if inputs == len(neck.get("mlp.2.bias", ())) else "idm"
    near = difflib.get_close_matches(stem, OBJECTIVES, n=1)
    hint = f"; is it {near[0]!r}?" if near else ""
    raise WeightsError(f"neither the name {stem!r} nor the tensors tell which objective this is{hint} Say it with --objective")


def _sizes(name: str, networks: Networks) -> dict[str, Any]:
    """Keyword arguments of the objective that make it as large as the checkpoint's."""
    neck, head = networks["neck"], networks["head"]
    sizes: dict[str, Any] = {"neck_widths": (len(neck["mlp.0.bias"]), len(neck["mlp.2.bias"]))}
    if name in ("bc", "idm", "dt", "cql_m"):
        sizes["num_actions"] = head["biases.weight"].shape[1]
    elif name == "cql_d":
        sizes["num_actions"] = head["biases.weight"].shape[1] // ATOMS
    elif name in ("spr", "spr_idm"):
        sizes["num_actions"] = len(head["action_embed.weight"]) // len(neck["spatial_embed.weight"])
    if name in ("mae", "siammae", "dt"):
        sizes["mlp_width"] = len(neck["transformer_encoder.layers.0.1.fn.net.0.bias"])
        sizes["depth" if name == "dt" else "encoder_depth"] = _depth(neck)
    if name in ("mae", "siammae"):
        sizes["decoder_depth"] = _depth(head)
    return sizes


def _depth(tensors: Mapping[str, Tensor]) -> int:
    return len({match[1] for key in tensors if (match := re.match(r"transformer_\w+\.layers\.(\d+)\.", key))})


def _renamed(name: str, networks: Networks) -> dict[str, Tensor]:
    """Everything but the backbones, as the objective names it."""
    return {
        own_name(name, f"{network}.{key}"): tensor
        for network, tensors in networks.items()
        if network not in _BACKBONES
        for key, tensor in tensors.items()
    }
