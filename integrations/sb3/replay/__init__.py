"""Replay buffers of Stable-Baselines3, and filling them from datasets."""
