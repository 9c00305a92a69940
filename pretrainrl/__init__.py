"""Pre-trained frozen encoders for vision-based reinforcement learning.

Importing this package is cheap: torch and the integrations are imported by the first call that needs them.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pretrainrl.benchmarking.leaderboard import leaderboard as leaderboard
    from pretrainrl.benchmarking.report import report as report
    from pretrainrl.cards import EncoderCard
    from pretrainrl.commands import collect as collect
    from pretrainrl.commands import pretrain as pretrain
    from pretrainrl.commands import probe as probe
    from pretrainrl.encoders import check_encoder as check_encoder
    from pretrainrl.encoders import clear_encoder_cache as clear_encoder_cache
    from pretrainrl.encoders import make_encoder as make_encoder
    from pretrainrl.finetuning import finetune as finetune
    from pretrainrl.objectives import make_objective as make_objective

__version__ = "0.1.0"

_LAZY = {
    "benchmark": "pretrainrl.benchmarking.run",
    "benchmark_status": "pretrainrl.benchmarking.plan",
    "check_encoder": "pretrainrl.encoders",
    "clear_encoder_cache": "pretrainrl.encoders",
    "collect": "pretrainrl.commands",
    "finetune": "pretrainrl.finetuning",
    "leaderboard": "pretrainrl.benchmarking.leaderboard",
    "make_encoder": "pretrainrl.encoders",
    "make_objective": "pretrainrl.objectives",
    "plan_benchmark": "pretrainrl.benchmarking.plan",
    "pretrain": "pretrainrl.commands",
    "probe": "pretrainrl.commands",
    "report": "pretrainrl.benchmarking.report",
}

__all__ = [
    "benchmark",
    "benchmark_status",
    "check_encoder",
    "clear_encoder_cache",
    "collect",
    "encoder_card",
    "finetune",
    "leaderboard",
    "list_encoders",
    "list_objectives",
    "make_encoder",
    "make_objective",
    "plan_benchmark",
    "pretrain",
    "probe",
    "register_encoder",
    "report",
]


def __getattr__(name: str) -> Any:
    """Import what needs more than cards when it is first asked for (PEP 562)."""
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'pretrainrl' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})


def list_encoders(pattern: str = "*", *, include_manual: bool = False) -> list[str]:
    """Return the names of registered encoders, such as `siammae.impala_atari8`, each once and sorted.

    A bare objective, such as `siammae`, is an alias of that objective's default variant. It is understood wherever a name is
    taken, and it is not listed.

    Args:
        pattern: Shell-style pattern of names or aliases.
        include_manual: Whether to list encoders, too, whose weights are a file that users have to get by themselves.
    """
    from pretrainrl.cards import ENCODERS

    return [name for name, card in ENCODERS.by_name(pattern).items() if include_manual or not card.weights.manual]


def encoder_card(name: str) -> EncoderCard:
    """Return the card of a registered encoder: what it is, what it was trained on, what was measured.

    Raises:
        UnknownNameError: When no encoder has this name or alias; the message gives the nearest ones.
    """
    from pretrainrl.cards import ENCODERS

    return ENCODERS.get(name)


def register_encoder(card: EncoderCard | str | Path) -> EncoderCard:
    """Register an encoder under its card's name for this process, and return the card.

    Args:
        card: An `EncoderCard`, the path of a card file, or the path of a run folder of `pretrain`.

    Raises:
        CardError: When the card cannot be read or a field is wrong.
    """
    from pretrainrl.cards import ENCODERS, EncoderCard, find_card

    if not isinstance(card, EncoderCard):
        card = find_card(Path(card))
    ENCODERS.register(card.name, card)
    return card


def list_objectives(pattern: str = "*") -> list[str]:
    """Return the names of pre-training objectives that match the shell-style `pattern`, sorted."""
    from pretrainrl.cards import OBJECTIVES

    return OBJECTIVES.names(pattern)
