"""Frozen encoders before and inside agents of Stable-Baselines3."""
