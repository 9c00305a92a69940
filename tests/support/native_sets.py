"""Makes Minari datasets of an Atari game's own coloured frames, as those of the Farama Foundation are."""

import warnings
from typing import Any

import ale_py
import gymnasium
import minari
import numpy as np
from minari.data_collector import EpisodeBuffer


def make_native(
    name: str,
    env_id: str = "ALE/Pong-v5",
    *,
    steps: int = 12,
    episodes: int = 2,
    jpeg: bool = True,
    over: bool = False,
    **kwargs: Any,
) -> list[EpisodeBuffer]:
    """Play at random and write what was seen; returns it.

    Args:
        name: id of the dataset.
        env_id: Gymnasium's.
        steps: of each episode.
        episodes: how many.
        jpeg: store frames as Minari does by default.
        over: mark the last transitions as ends of the game.
        kwargs: of the environment.
    """
    gymnasium.register_envs(ale_py)
    env = gymnasium.make(env_id, **kwargs)
    env.action_space.seed(0)
    buffers = []
    for number in range(episodes):
        frames, rewards = [env.reset(seed=number)[0]], []
        actions = [int(env.action_space.sample()) for _ in range(steps)]
        for action in actions:
            frame, reward, *_ = env.step(action)
            frames.append(frame)
            rewards.append(float(reward))
        last = np.arange(steps) == steps - 1
        buffers.append(
            EpisodeBuffer(
                id=number,
                seed=number,
                observations=np.stack(frames),
                actions=np.array(actions),
                rewards=np.array(rewards),
                terminations=last & over,
                truncations=last & (not over),
            )
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about what is not said of the author and so on
        minari.create_dataset_from_buffers(
            name, buffers, env=env, algorithm_name="random", author={"Nobody"}, jpeg_encoding=jpeg
        )
    env.close()
    return buffers
