"""Environments of Stable-Baselines3."""
