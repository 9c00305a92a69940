"""What a masked objective paints of a few moments of an episode."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pretrainrl.data.episode import FRAME_SHAPE, Episode
from pretrainrl.data.windows import Batch, WindowSpec
from pretrainrl.objectives import Objective


def reconstructions(
    objective: Objective, games: Sequence[str], episodes: Sequence[Episode], *, moments: int = 3, seed: int = 0
) -> Tensor | None:
    """Return (n, 3, 84, 84) floats in [0, 1]: frame, visible part, reconstruction, for some moments of each episode.

    None where the objective does not reconstruct, or knows none of the episodes' games.

    Args:
        objective: in eval mode.
        games: slugs, in the order of the objective's heads.
        episodes: of those games; of others nothing is painted.
        moments: of each episode, evenly spread.
        seed: of the masks.
    """
    pictures = []
    for episode in episodes:
        if episode.game in games:
            batch = _windows(episode, objective.window, games.index(episode.game), moments)
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(seed)
                pictures.append(objective.reconstruct(batch))
    painted = [picture for picture in pictures if picture is not None]
    return torch.cat(painted) if painted else None


def _windows(episode: Episode, window: WindowSpec, game: int, moments: int) -> Batch:
    """Cut windows without transitions, which masked objectives do not read, from an episode."""
    last = max(0, episode.last_observed - window.future)
    times = (np.arange(moments) * 2 + 1) * (last + 1) // (2 * moments)
    padded = np.concatenate([np.zeros((window.stack - 1, *FRAME_SHAPE), np.uint8), episode.frames])
    rows = times[:, None] + np.arange(window.stack + window.future)
    frames = torch.from_numpy(padded[rows.clip(max=len(padded) - 1)])
    none = torch.empty(moments, 0)
    return Batch(frames, none.long(), none, none.bool(), torch.full((moments,), game), window.stack)
