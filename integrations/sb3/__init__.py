"""Stable-Baselines3: Atari's vector environment, features extractor, observation wrapper, Rainbow, behaviour cloning."""

from pretrainrl.integrations.sb3.atari_vec_env import AtariVecEnv
from pretrainrl.integrations.sb3.behavior_cloning import BehaviorCloning
from pretrainrl.integrations.sb3.compact_replay import CompactReplayBuffer
from pretrainrl.integrations.sb3.extractor import PretrainedExtractor, policy_kwargs
from pretrainrl.integrations.sb3.fill import fill_replay_buffer
from pretrainrl.integrations.sb3.necks import NeckExtractor, neck_policy_kwargs
from pretrainrl.integrations.sb3.prioritized_replay import PrioritizedReplayBuffer
from pretrainrl.integrations.sb3.rainbow import Rainbow
from pretrainrl.integrations.sb3.reward_observation import VecRewardObservation
from pretrainrl.integrations.sb3.standardization import fit_standardization
from pretrainrl.integrations.sb3.vec_encode import VecEncodeObservation
from pretrainrl.integrations.sb3.zero_shot import DecisionTransformerPolicy, ZeroShotPolicy

__all__ = [
    "AtariVecEnv",
    "BehaviorCloning",
    "CompactReplayBuffer",
    "DecisionTransformerPolicy",
    "NeckExtractor",
    "PretrainedExtractor",
    "PrioritizedReplayBuffer",
    "Rainbow",
    "VecEncodeObservation",
    "VecRewardObservation",
    "ZeroShotPolicy",
    "fill_replay_buffer",
    "fit_standardization",
    "neck_policy_kwargs",
    "policy_kwargs",
]
