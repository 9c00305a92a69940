"""Stable-Baselines3: Atari's vector environment, features extractor, observation wrapper, Rainbow, behavior cloning."""

from pretrainrl.integrations.sb3.behavior_cloning import BehaviorCloning
from pretrainrl.integrations.sb3.encoding.card_statistics import write_standardization
from pretrainrl.integrations.sb3.encoding.extractor import PretrainedExtractor, policy_kwargs
from pretrainrl.integrations.sb3.encoding.necks import NeckExtractor, neck_policy_kwargs
from pretrainrl.integrations.sb3.encoding.standardization import fit_standardization
from pretrainrl.integrations.sb3.encoding.vec_encode import VecEncodeObservation
from pretrainrl.integrations.sb3.envs.atari_vec_env import AtariVecEnv
from pretrainrl.integrations.sb3.rainbow import Rainbow
from pretrainrl.integrations.sb3.replay.compact_replay import CompactReplayBuffer
from pretrainrl.integrations.sb3.replay.fill_replay_buffer import fill_replay_buffer
from pretrainrl.integrations.sb3.replay.prioritized_replay import PrioritizedReplayBuffer
from pretrainrl.integrations.sb3.zero_shot import DecisionTransformerPolicy, VecRewardObservation, ZeroShotPolicy

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
    "write_standardization",
]
