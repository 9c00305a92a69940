"""Agents of Stable-Baselines3 that learn or play while their play is recorded."""
