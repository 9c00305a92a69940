"""From a name to an objective."""

from __future__ import annotations

import copy
import inspect
from typing import Any

from torch import nn

from pretrainrl.cards import OBJECTIVES
from pretrainrl.encoders import Encoder, make_backbone
from pretrainrl.encoders.frozen import thaw
from pretrainrl.errors import UnknownNameError
from pretrainrl.objectives.objective import Objective
from pretrainrl.registry import import_target


def make_objective(
    name: str, *, encoder: nn.Module | Encoder | str, num_games: int, preset: str | None = None, **overrides: Any
) -> Objective:
    """Make a pre-training objective.

    Args:
        name: A name of `pretrainrl.list_objectives()`.
        encoder: What to train: a backbone module, which is trained in place; the name of a backbone, for an untrained one;
            or an encoder, whose backbone is copied, so that the encoder stays as it is.
        num_games: Number of games in the data.
        preset: A preset of the objective's card, for the sizes of necks, heads and transformers; by default those of the
            objective's class, which are the paper's.
        overrides: Keyword arguments of the objective's class, which win over the preset's.

    Raises:
        UnknownNameError: for an objective, backbone or preset that does not exist.
        InputError: for arguments that the objective refuses.
    """
    card = OBJECTIVES.get(name)
    if preset is not None and preset not in card.presets:
        raise UnknownNameError.of(f"preset of {name}", preset, card.presets)
    options = {**(card.presets[preset].model if preset else {}), **overrides}
    target: type[Objective] = import_target(card.target)
    known = [key for key, value in inspect.signature(target).parameters.items() if value.kind is value.KEYWORD_ONLY]
    for option in options:
        if option not in known:
            raise UnknownNameError.of(f"option of {name}", option, known)
    return target(_backbone(encoder), num_games, **options)


def _backbone(encoder: nn.Module | Encoder | str) -> nn.Module:
    """Return the module to train."""
    if isinstance(encoder, str):
        return make_backbone(encoder)
    if isinstance(encoder, Encoder):
        backbone = copy.deepcopy(encoder.backbone).float().train()
        thaw(backbone)
        return backbone
    return encoder
