"""Stable-Baselines3: Atari's vector environment, features extractor and observation wrapper."""

from pretrainrl.integrations.sb3.atari_vec_env import AtariVecEnv
from pretrainrl.integrations.sb3.extractor import PretrainedExtractor, policy_kwargs
from pretrainrl.integrations.sb3.vec_encode import VecEncodeObservation

__all__ = ["AtariVecEnv", "PretrainedExtractor", "VecEncodeObservation", "policy_kwargs"]
