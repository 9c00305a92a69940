"""Pushing agents to the hub: as Stable-Baselines3 saves them, and in files that are read without unpickling."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy
from torch import Tensor

from pretrainrl.errors import InputError, PretrainRLError, WeightsError
from pretrainrl.integrations.hub.description import (
    DESCRIPTION,
    Description,
    agent_name,
    algorithm_name,
    describe,
    encoder_arguments,
    render_agent_card,
    repository,
)
from pretrainrl.integrations.sb3.agents import save_agent
from pretrainrl.optional import require
from pretrainrl.weights import file_sha256, save_tensors


def push_to_hub(
    agent: BaseAlgorithm,
    repo_id: str,
    env_id: str,
    *,
    mean_reward: float | None = None,
    std_reward: float | None = None,
    zip_only: bool = False,
    private: bool | None = None,
    commit_message: str | None = None,
    token: str | None = None,
) -> str:
    """Push an agent to the Hugging Face hub, in one commit.

    The repository then has `<algo>-<env>.zip`, which huggingface_sb3 and RL Baselines3 Zoo find under that name;
    `<algo>-<env>.safetensors` and `agent.json`, from which `load_from_hub` builds the agent without unpickling anything; and
    a page with the metadata that the hub's leaderboards read.

    Args:
        agent: Agent of A2C, DQN, PPO, QR-DQN or Rainbow.
        repo_id: Repository, `<organization>/<name>`, or the organization alone for the name `<algo>-<env>`.
        env_id: Id of the environment, as Gymnasium has it.
        mean_reward: Mean return of evaluated episodes, as `evaluate_policy` returns it.
        std_reward: Standard deviation of these returns.
        zip_only: Whether to push the zip alone, of an agent that cannot be described; only those who trust it can load it.
        private: Whether a repository that is made now is private; by default as the organization has it.
        commit_message: Message of the commit; by default `<algo>-<env>`.
        token: Token of the hub; by default that of `hf auth login` or `HF_TOKEN`.

    Returns:
        The commit, which `load_from_hub` takes as `revision`.

    Raises:
        InputError: When the agent cannot be described without pickle, or a name is malformed.
        UnknownNameError: When the agent's encoder is not registered.
        WeightsError: When the agent does not arrive.
        MissingExtraError: When huggingface_hub is not installed.
    """
    hub = require("huggingface_hub", "hub")
    if (mean_reward is None) != (std_reward is None):
        raise InputError("mean_reward and std_reward belong together; evaluate_policy returns both")
    name = agent_name(algorithm_name(type(agent)), env_id)
    repo_id = repository(repo_id, name)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        encoder = None if zip_only else _write_description(agent, env_id, folder, name)
        save_agent(agent, folder / f"{name}.zip")
        score = None if mean_reward is None or std_reward is None else (mean_reward, std_reward)
        card = render_agent_card(repo_id, name, type(agent).__name__, env_id, score, encoder, safe=not zip_only)
        (folder / "README.md").write_text(card, encoding="utf-8")
        api = hub.HfApi(token=token)
        try:
            api.create_repo(repo_id, repo_type="model", private=private, exist_ok=True)
            commit = api.upload_folder(
                repo_id=repo_id,
                folder_path=folder,
                repo_type="model",
                commit_message=commit_message or name,
                delete_patterns=DESCRIPTION,  # of an earlier agent, where this one has none
            )
        except Exception as error:  # the hub's client raises its own, httpx's and OS errors
            raise WeightsError(f"{name} was not pushed to {repo_id} ({type(error).__name__}: {error})") from error
    return str(commit.oid)


def tensors_of(policy: BasePolicy) -> dict[str, Tensor]:
    """Return parameters and buffers that are saved by name, each once; a frozen encoder is not among them."""
    saved = policy.state_dict().keys()
    both = {**dict(policy.named_parameters()), **dict(policy.named_buffers())}
    return {name: tensor for name, tensor in both.items() if name in saved}


def _write_description(agent: BaseAlgorithm, env_id: str, folder: Path, name: str) -> str | None:
    """Write `agent.json` and the tensors; return the name of the encoder, if there is one.

    Raises:
        InputError: When the agent cannot be described without pickle.
    """
    try:
        table = describe(agent)
    except PretrainRLError as error:
        raise type(error)(
            f"the agent cannot be described without pickle: {error}; zip_only=True pushes it as a zip"
        ) from error
    file = folder / f"{name}.safetensors"
    save_tensors({key: tensor.detach().cpu().contiguous() for key, tensor in tensors_of(agent.policy).items()}, file)
    table |= {"env_id": env_id, "weights": {"file": file.name, "sha256": file_sha256(file)}}
    Description.parse(table, DESCRIPTION)
    (folder / DESCRIPTION).write_text(json.dumps(table, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    observed = table["observed_encoder"] or {}
    own = encoder_arguments(table["policy"], agent.policy_kwargs) or {}
    found: str | None = observed.get("name") or own.get("encoder")
    return found
