"""What an objective reads of a window, found by running it on noise. Pictures and tables of objectives are made from this.

A new objective needs no line here: its class and its card are enough.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from pretrainrl.cards import OBJECTIVES, ObjectiveCard
from pretrainrl.data.windows import Batch, WindowSpec
from pretrainrl.objectives import Objective, make_objective
from pretrainrl.paths import registry_folder

KINDS = ("image", "video", "demonstration", "trajectory")
Role = Literal["trained", "copy", "loss"]


class Seen(NamedTuple):
    """An observation that a network reads, in steps after t."""

    offset: int
    role: Role


class Read(NamedTuple):
    """What is read of every step, or of the first step only."""

    name: str
    role: Role
    first: bool


class Reading(NamedTuple):
    """What an objective reads of a window, and how many observations of it each network encodes."""

    observations: list[Seen]
    steps: list[Read]
    passes: dict[Role, int]


def shipped() -> list[ObjectiveCard]:
    """Cards of the objectives that ship with the package, from images to trajectories; others have pages of their own."""
    cards = [OBJECTIVES.get(path.stem) for path in (registry_folder() / "objectives").glob("*.toml")]
    return sorted(cards, key=lambda card: (KINDS.index(card.data), card.name))


def window_batch(spec: WindowSpec, size: int = 2) -> Batch:
    """Windows of noise; the first pixel of each frame is its place in the window."""
    frames = torch.randint(0, 256, (size, spec.stack + spec.future, 84, 84), dtype=torch.uint8)
    frames[:, :, 0, 0] = torch.arange(frames.shape[1])
    return Batch(
        frames=frames,
        actions=torch.randint(0, 4, (size, spec.steps)),
        rewards=torch.zeros(size, spec.steps),
        terminations=torch.zeros(size, spec.steps, dtype=torch.bool),
        games=torch.zeros(size, dtype=torch.int64),
        stack=spec.stack,
        returns=torch.zeros(size, spec.steps if spec.returns else 0),
    )


@cache
def reading(name: str) -> Reading:
    """Find what the objective `name` reads."""
    objective = make_objective(name, encoder="nature", num_games=1, preset="nano", augmentation=False)
    batch = window_batch(objective.window, size=32)
    networks: dict[nn.Module, Role] = {objective.backbone: "trained"}
    if isinstance(copy := getattr(objective, "target_backbone", None), nn.Module):
        networks[copy] = "copy"
    seen: dict[Seen, None] = {}
    passes: dict[Role, int] = {"trained": 0, "copy": 0}

    def note(network: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        newest = (inputs[0][:, -1, 0, 0] * 255).round().long() - batch.stack + 1
        seen.update(dict.fromkeys(Seen(offset, networks[network]) for offset in newest.unique().tolist()))
        passes[networks[network]] += len(newest)

    hooks = [network.register_forward_pre_hook(note) for network in networks]
    _run(objective, batch)
    for hook in hooks:
        hook.remove()
    roles = list(networks.values())
    observations = sorted(seen, key=lambda each: (roles.index(each.role), each.offset))
    return Reading(observations, _steps(objective, batch), {role: count // 32 for role, count in passes.items()})


CHANGES: dict[str, Callable[[Tensor], Tensor]] = {
    "returns": lambda returns: returns + 1,
    "actions": lambda actions: (actions + 1) % 4,
    "rewards": lambda rewards: rewards + 1,
    "terminations": lambda terminations: ~terminations,
}


def _steps(objective: Objective, batch: Batch) -> list[Read]:
    """Change each kind of label in turn: what changes the loss is read, and what changes a module's input is its input."""
    loss, inputs = _run(objective, batch)
    found = []
    for name, change in CHANGES.items():
        labels = getattr(batch, name)
        changed_loss, changed_inputs = _run(objective, replace(batch, **{name: change(labels)}))
        if labels.shape[1] and changed_loss != loss:
            later = replace(batch, **{name: torch.cat([labels[:, :1], change(labels)[:, 1:]], dim=1)})
            role: Role = "loss" if changed_inputs == inputs else "trained"
            found.append(Read(name, role, first=_run(objective, later)[0] == loss))
    summed = objective.window.returns
    if summed and summed.steps:  # an n-step return is drawn as the rewards that it adds up
        found = [Read("rewards", each.role, first=False) if each.name == "returns" else each for each in found]
    return sorted(found, key=lambda each: list(CHANGES).index(each.name))


@torch.no_grad()
def _run(objective: Objective, batch: Batch) -> tuple[float, list[float]]:
    """Return the loss, and a number for every tensor that goes into a module."""
    inputs: list[float] = []
    hook = nn.modules.module.register_module_forward_pre_hook(
        lambda module, args: inputs.extend(float(item.double().sum()) for item in args if isinstance(item, Tensor))
    )
    torch.manual_seed(0)
    loss, _ = objective.loss(batch)
    hook.remove()
    return float(loss), inputs
