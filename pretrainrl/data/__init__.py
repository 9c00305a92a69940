"""Frames on their way from a game to a loss: episodes, recordings, the frame cache and windows."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pretrainrl.data.collect import collect_episodes as collect_episodes
    from pretrainrl.data.episode import Episode as Episode
    from pretrainrl.data.frame_cache import FrameCache as FrameCache
    from pretrainrl.data.recording import Recording as Recording
    from pretrainrl.data.sampler import WindowSampler as WindowSampler
    from pretrainrl.data.windows import Batch as Batch
    from pretrainrl.data.windows import Returns as Returns
    from pretrainrl.data.windows import WindowSpec as WindowSpec

# What each name is imported from, when it is first asked for (PEP 562): games are played without torch.
_LAZY = {
    "Batch": "windows",
    "Episode": "episode",
    "FrameCache": "frame_cache",
    "Recording": "recording",
    "Returns": "windows",
    "WindowSampler": "sampler",
    "WindowSpec": "windows",
    "collect_episodes": "collect",
}

__all__ = ["Batch", "Episode", "FrameCache", "Recording", "Returns", "WindowSampler", "WindowSpec", "collect_episodes"]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
