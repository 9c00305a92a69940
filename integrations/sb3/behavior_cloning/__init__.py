"""Behavior cloning for Stable-Baselines3."""

from pretrainrl.integrations.sb3.behavior_cloning.behavior_cloning import BehaviorCloning
from pretrainrl.integrations.sb3.behavior_cloning.policies import CnnPolicy, MlpPolicy

__all__ = ["BehaviorCloning", "CnnPolicy", "MlpPolicy"]
