"""Names of agents, files and repositories, as huggingface_sb3 and RL Baselines3 Zoo spell them."""

from __future__ import annotations

import re

from pretrainrl.errors import InputError

DESCRIPTION = "agent.json"  # beside <name>.zip and <name>.safetensors
_ZOO = {"recurrentppo": "ppo_lstm"}  # the zoo's names are those of the classes in lower case, but for this one


def algorithm_name(algorithm: type) -> str:
    """Return the zoo's name of an algorithm."""
    name = algorithm.__name__.lower()
    return _ZOO.get(name, name)


def agent_name(algorithm: str, env_id: str) -> str:
    """Return `<algorithm>-<environment>`, with `/` as `-` and without the module of `module:environment`.

    Raises:
        InputError: for what is no id of Gymnasium.
    """
    if re.fullmatch(r"([\w.]+:)?[\w./-]+", env_id) is None:
        raise InputError(f"expected an environment's id such as PongNoFrameskip-v4 or ALE/Pong-v5, got {env_id!r}")
    return f"{algorithm}-{env_id.replace('/', '-').rpartition(':')[2]}"


def repository(repo_id: str, name: str | None = None) -> str:
    """Complete an organisation to the id of a repository, and check it.

    Raises:
        InputError: when it is no id of a repository.
    """
    completed = repo_id if "/" in repo_id or name is None else f"{repo_id}/{name}"
    if re.fullmatch(r"[\w.-]+/[\w.-]+", completed) is None:
        raise InputError(f"expected a repository such as someone/rainbow-PongNoFrameskip-v4, got {repo_id!r}")
    return completed
