"""Stable-Baselines3: Atari's vector environment, features extractor and observation wrapper."""

from pretrainrl.integrations.sb3.atari_vec_env import AtariVecEnv

__all__ = ["AtariVecEnv"]
