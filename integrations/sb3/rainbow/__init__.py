"""Rainbow for Stable-Baselines3."""

from pretrainrl.integrations.sb3.rainbow.policies import CnnPolicy, MlpPolicy, MultiInputPolicy
from pretrainrl.integrations.sb3.rainbow.rainbow import Rainbow

__all__ = ["CnnPolicy", "MlpPolicy", "MultiInputPolicy", "Rainbow"]
