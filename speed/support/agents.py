"""How fast agents are."""

from __future__ import annotations

import time

from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm


def steps_per_second(agent: OffPolicyAlgorithm, steps: int) -> float:
    """Let an agent go on learning for so many environment steps."""
    start = time.perf_counter()
    agent.learn(steps, reset_num_timesteps=False)
    return steps / (time.perf_counter() - start)
