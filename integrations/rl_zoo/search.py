"""What the zoo's hyper-parameter search tries for Rainbow."""

from __future__ import annotations

from typing import Any


def sample_rainbow_params(trial: Any, n_actions: int, n_envs: int, additional_args: dict[str, Any]) -> dict[str, Any]:
    """Sample arguments of `Rainbow`; the policy's are left as they are, so a search keeps its encoder.

    Args:
        trial: of Optuna.
        n_actions: not used; the zoo gives it for continuous actions.
        n_envs: not used.
        additional_args: not used; they are of hindsight replay.
    """
    sampled = {
        "one_minus_gamma": trial.suggest_float("one_minus_gamma", 0.001, 0.03, log=True),
        "learning_rate": trial.suggest_float("learning_rate", 1e-5, 3e-3, log=True),
        "batch_size_pow": trial.suggest_int("batch_size_pow", 4, 7),
        "train_freq": trial.suggest_int("train_freq", 1, 8),
        "gradient_steps": trial.suggest_int("gradient_steps", 1, 4),
        "n_steps": trial.suggest_int("n_steps", 1, 10),
        "target_update_interval": trial.suggest_int("target_update_interval", 100, 10_000, log=True),
        "per_alpha": trial.suggest_float("per_alpha", 0.0, 0.8),
        "dueling": trial.suggest_categorical("dueling", [False, True]),
        "noisy": trial.suggest_categorical("noisy", [False, True]),
    }
    return convert_rainbow_params(sampled)


def convert_rainbow_params(sampled: dict[str, Any]) -> dict[str, Any]:
    """Turn a trial's values into arguments of `Rainbow`."""
    arguments = dict(sampled)
    gamma, batch_size = 1 - arguments.pop("one_minus_gamma"), 2 ** arguments.pop("batch_size_pow")
    return {**arguments, "gamma": gamma, "batch_size": batch_size}
