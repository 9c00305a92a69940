"""What this package calls a tensor of the Atari-PB study's necks and heads."""

from __future__ import annotations

import re

Rules = tuple[tuple[str, str], ...]

# Tried in order on `<network>.<key>`; the first that matches names the tensor. What none matches keeps its name.
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


def own_name(objective: str, key: str) -> str:
    """Return the name in `objective`'s state dict of the checkpoint's tensor `key`, `<network>.<name>`."""
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
