"""Frames on their way from a game to a loss: episodes, the frame cache, windows."""

from pretrainrl.data.collect import collect_episodes
from pretrainrl.data.episode import Episode
from pretrainrl.data.frame_cache import FrameCache
from pretrainrl.data.sampler import WindowSampler
from pretrainrl.data.windows import Batch, Returns, WindowSpec

__all__ = ["Batch", "Episode", "FrameCache", "Returns", "WindowSampler", "WindowSpec", "collect_episodes"]
