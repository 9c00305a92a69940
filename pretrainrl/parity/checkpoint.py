"""From a checkpoint of Atari-PB to the objective that it was trained with."""

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
from pretrainrl.objectives import Objective, make_objective
from pretrainrl.weights import state_dict_errors

ATOMS = 51
ALIASES = {"cql_dist": "cql_d", "cql_mse": "cql_m"}
OBJECTIVES = ("curl", "mae", "atc", "siammae", "r3m", "bc", "spr", "idm", "spr_idm", "dt", "cql_d", "cql_m")
_BACKBONES = ("backbone", "target_backbone")


def load_checkpoint_objective(path: Path, name: str | None = None) -> tuple[str, Objective]:
    """Return the name of a checkpoint's objective and the objective with the checkpoint's weights, not augmenting.

    All sizes are read from the tensors, except for the 4 heads of attention and the 51 atoms of C51.

    Args:
        path: Path of the checkpoint.
        name: Name of the objective; by default it is recognized from the file's name, or else from the tensors.

    Raises:
        WeightsError: When the file is no such checkpoint; the message lists every tensor that is missing, unexpected,
            misshapen or not finite.
        UnknownNameError: When `name` is not an objective of Atari-PB.
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
    if wrong := state_dict_errors({**objective.state_dict(), **fixed}, tensors):
        raise WeightsError(f"{path} is not a checkpoint of {name}: {', '.join(wrong)}")
    for key, buffer in fixed.items():
        if (tensors.pop(key) - buffer).abs().max() > 1e-4:
            raise WeightsError(f"{path} is not a checkpoint of {name}: {key} are not sin-cos positions")
    objective.load_state_dict(tensors)
    return name, objective


def objective_name(stem: str, networks: Networks) -> str:
    """Recognize the objective from the file's name without its suffix, or else from the tensors.

    Raises:
        WeightsError: When neither is enough.
    """
    for name in sorted((*OBJECTIVES, *ALIASES), key=len, reverse=True):
        if re.search(rf"(?<![a-z]){name}(?![a-z])", stem.lower()):
            return ALIASES.get(name, name)
    return _name_from_tensors(stem, networks)


def _name_from_tensors(stem: str, networks: Networks) -> str:
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
    """Return the keyword arguments that make the objective as large as the checkpoint's."""
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
    """Return all tensors except the backbones' under the objective's names."""
    return {
        to_own_key(name, f"{network}.{key}"): tensor
        for network, tensors in networks.items()
        if network not in _BACKBONES
        for key, tensor in tensors.items()
    }


Rules = tuple[tuple[str, str], ...]

# The first rule that matches `<network>.<key>` names the tensor; a tensor that no rule matches keeps its name.
_GAME_LINEAR: Rules = (
    (r"(target_)?head\.weights\.weight", r"\1head.weight"),
    (r"(target_)?head\.biases\.weight", r"\1head.bias"),
    (r"(target_)?neck\.spatial_embed\.weight", r"\1neck.embedding.weight"),
)
_MASKED: Rules = (
    (r"neck\.spatial_embed\.weight", "encoder.tokens.embedding.weight"),
    (r"neck\.mlp\.(.*)", r"encoder.tokens.mlp.\1"),
    (r"neck\.norm\.(.*)", r"encoder.transformer.norm.\1"),
    (r"neck\.transformer_encoder\.(.*)", r"encoder.transformer.\1"),
    (r"neck\.(cls_token)", r"encoder.\1"),
    (r"neck\.pos_embed", "encoder.positions"),
    (r"head\.embed_linear\.(.*)", r"decoder.embed.\1"),
    (r"head\.norm\.(.*)", r"decoder.transformer.norm.\1"),
    (r"head\.transformer_decoder\.(.*)", r"decoder.transformer.\1"),
    (r"head\.(mask_token)", r"decoder.\1"),
    (r"head\.pos_embed", "decoder.positions"),
    (r"head\.recon_w\.weight", "decoder.pixels.weight"),
    (r"head\.recon_b\.weight", "decoder.pixels.bias"),
)
_PREDICTIVE: Rules = (
    (r"head\.action_embed\.weight", "transition.actions.weight"),
    (r"head\.transition\.(.*)", r"transition.rnn.\1"),
    (r"head\.spr_w\.weight", "head.weight"),
    (r"head\.spr_b\.weight", "head.bias"),
    (r"head\.idm_w1\.weight", "inverse.first.weight"),
    (r"head\.idm_b1\.weight", "inverse.first.bias"),
    (r"head\.idm_w2\.weight", "inverse.second.weight"),
    (r"head\.idm_b2\.weight", "inverse.second.bias"),
    *_GAME_LINEAR,
)
_DT: Rules = (
    (r"neck\.spatial_norm\.(.*)", r"neck.norm.\1"),
    (r"neck\.act_embedder\.weight", "embed_action.weight"),
    (r"neck\.rtg_embedder\.(.*)", r"embed_return.\1"),
    (r"neck\.transformer_encoder\.(.*)", r"transformer.\1"),
    (r"neck\.out_norm\.(.*)", r"transformer.norm.\1"),
    (r"neck\.pos_embed", "positions"),
    *_GAME_LINEAR,
)
_OF: dict[str, Rules] = {"mae": _MASKED, "siammae": _MASKED, "spr": _PREDICTIVE, "spr_idm": _PREDICTIVE, "dt": _DT}

_LAYER = re.compile(r"(.*)\blayers\.(\d+)\.(\d+)\.(.*)")
_SUBLAYERS = {2: ("attention", "mlp"), 3: ("cross", "attention", "mlp")}
_LEAVES: Rules = (
    (r"fn\.to_qkv\.(.*)", r"qkv.\1"),
    (r"fn\.to_out\.0\.(.*)", r"out.\1"),
    (r"fn\.q_embed\.(.*)", r"query.\1"),
    (r"fn\.k_embed\.(.*)", r"key.\1"),
    (r"fn\.v_embed\.(.*)", r"value.\1"),
    (r"fn\.net\.0\.(.*)", r"1.\1"),
    (r"fn\.net\.3\.(.*)", r"3.\1"),
)


def to_own_key(objective: str, key: str) -> str:
    """Return the key in the state dict of `objective` for the checkpoint's tensor `key`, `<network>.<name>`."""
    renamed = _apply(_OF.get(objective, _GAME_LINEAR), key)
    layer = _LAYER.fullmatch(renamed)
    if layer is None:
        return renamed
    before, block, index, leaf = layer.groups()
    sublayers = _SUBLAYERS[3 if objective == "siammae" and key.startswith("head.") else 2]
    if int(index) >= len(sublayers):
        return key
    sublayer = sublayers[int(index)]
    leaf = leaf.replace("norm.", "0.") if sublayer == "mlp" else leaf
    return f"{before}blocks.{block}.{sublayer}.{_apply(_LEAVES, leaf)}"


def _apply(rules: Rules, key: str) -> str:
    for pattern, replacement in rules:
        if match := re.fullmatch(pattern, key):
            return match.expand(replacement)
    return key
