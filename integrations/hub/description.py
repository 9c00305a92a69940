"""Descriptions of agents without their weights: enough to build them again, and nothing that has to be unpickled."""

from __future__ import annotations

import inspect
import re
from typing import Annotated, Any, Literal

from gymnasium.spaces import Space
from pydantic import Field
from sb3_contrib import QRDQN
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import (
    DictReplayBuffer,
    DictRolloutBuffer,
    NStepReplayBuffer,
    ReplayBuffer,
    RolloutBuffer,
)
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy

from pretrainrl.cards import ENCODERS, Card
from pretrainrl.device import dtype_name
from pretrainrl.encoders.observation_spaces import FeatureKind, FeatureSpace
from pretrainrl.errors import InputError
from pretrainrl.integrations.hub.json_codec import to_json
from pretrainrl.integrations.sb3 import PretrainedExtractor, Rainbow
from pretrainrl.integrations.sb3.encoding.policies import ENCODER_POLICIES, EncoderPolicy
from pretrainrl.optional import require

ALGORITHMS: dict[str, type[BaseAlgorithm]] = {"a2c": A2C, "dqn": DQN, "ppo": PPO, "qrdqn": QRDQN, "rainbow": Rainbow}
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

_MADE = {"policy_kwargs", "replay_buffer_class", "replay_buffer_kwargs"}  # from what the agent has
_OF_THE_RUN = {"tensorboard_log", "verbose", "seed", "stats_window_size", "_init_setup_model"}
_IN_THE_POLICY = {"use_rms_prop", "rms_prop_eps"}  # A2C's, which it puts into policy_kwargs
_BUFFERS = (ReplayBuffer, DictReplayBuffer, NStepReplayBuffer, RolloutBuffer, DictRolloutBuffer)


class AgentWeights(Card):
    """The file of the policy's tensors."""

    file: Annotated[str, Field(pattern=r"^[\w.-]+\.safetensors$")]
    sha256: Digest


class ObservedEncoder(Card):
    """Encoder whose features the agent observes, the kind of features, and the type in which they were computed."""

    name: str
    sha256: Digest
    features: FeatureKind
    dtype: Literal["float32", "bfloat16"]

    @classmethod
    def of(cls, space: Space[Any]) -> ObservedEncoder | None:
        """Return what an observation space says of it; None for a space of other things than features."""
        if not isinstance(space, FeatureSpace):
            return None
        source = space.source
        return cls.model_validate(
            {"name": source.encoder, "sha256": source.sha256, "features": source.kind, "dtype": source.dtype}
        )


class Description(Card):
    """The content of `agent.json`.

    Spaces are as Gymnasium prints them. `arguments` are those of the algorithm's constructor, in the form of `to_json`.
    """

    algorithm: str
    policy: str
    env_id: str
    observation_space: str
    action_space: str
    arguments: dict[str, Any]
    observed_encoder: ObservedEncoder | None
    num_timesteps: int
    exploration_rate: float | None
    weights: AgentWeights


def describe(agent: BaseAlgorithm) -> dict[str, Any]:
    """Return what `Description` says of the agent; the environment's id and the weights are the caller's to add.

    Raises:
        InputError: When the agent is of another algorithm, has an argument that only a pickle can hold or normalized
            observations, or when nobody else could find its encoder.
        UnknownNameError: When its encoder is not registered.
    """
    name = next((name for name, algorithm in ALGORITHMS.items() if type(agent) is algorithm), None)
    if name is None:
        raise InputError(f"it is a {type(agent).__name__}; those that can be described are {', '.join(ALGORITHMS)}")
    policy = next((alias for alias, cls in policy_classes(type(agent)).items() if type(agent.policy) is cls), None)
    if policy is None:
        raise InputError(f"its policy is a {type(agent.policy).__name__}, a class that only a pickle can name")
    normalize = agent.get_vec_normalize_env()
    if normalize is not None and normalize.norm_obs:
        raise InputError("its observations are normalized by VecNormalize, whose statistics are not a part of it")
    rate = getattr(agent, "exploration_rate", None)
    observed = ObservedEncoder.of(agent.observation_space)
    return {
        "algorithm": name,
        "policy": policy,
        "observation_space": str(agent.observation_space),
        "action_space": str(agent.action_space),
        "arguments": _arguments(agent, policy),
        "observed_encoder": None if observed is None else observed.model_dump(),
        "num_timesteps": agent.num_timesteps,
        "exploration_rate": None if rate is None else float(rate),
    }


def policy_classes(algorithm: type[BaseAlgorithm]) -> dict[str, type[BasePolicy]]:
    """Return policies by the names that descriptions use: Stable-Baselines3's own, and those that take an encoder's name."""
    base = algorithm.policy_aliases["MlpPolicy"]
    return {**algorithm.policy_aliases, **{name: cls for name, cls in ENCODER_POLICIES.items() if issubclass(cls, base)}}


def argument_names(algorithm: type[BaseAlgorithm]) -> set[str]:
    """Return the names of the constructor's arguments that make the agent what it is, rather than where and how it runs."""
    return inspect.signature(algorithm.__init__).parameters.keys() - {"self", "policy", "env", "device"} - _OF_THE_RUN


def encoder_arguments(policy: str, policy_kwargs: dict[str, Any]) -> dict[str, Any] | None:
    """Return the arguments, of the policy or of the extractor, that name the agent's own encoder; None if it has none."""
    if policy in ENCODER_POLICIES:
        return policy_kwargs if policy_kwargs.get("encoder") is not None else None
    if policy_kwargs.get("features_extractor_class") is PretrainedExtractor:
        arguments: dict[str, Any] = policy_kwargs.get("features_extractor_kwargs", {})
        return arguments
    return None


def check_encoder_source(arguments: dict[str, Any]) -> None:
    """Check that an encoder is one that everybody finds: no path of this machine is given away or, from a stranger, read.

    Raises:
        InputError: When the weights are a file.
        UnknownNameError: When the encoder is not registered.
    """
    encoder, weights = str(arguments["encoder"]), arguments.get("weights")
    ENCODERS.get(encoder)
    if weights not in (None, "random") and not str(weights).startswith("hf://"):
        raise InputError(
            f"its encoder's weights are the file {weights}, which others do not have; upload it, and name hf://..."
        )


def _arguments(agent: BaseAlgorithm, policy: str) -> dict[str, Any]:
    names = argument_names(type(agent)) - _MADE - _IN_THE_POLICY
    arguments = {name: getattr(agent, name) for name in sorted(names)}
    if arguments.get("rollout_buffer_class") in _BUFFERS:
        arguments["rollout_buffer_class"] = None
    if isinstance(agent, A2C):
        arguments["use_rms_prop"] = False
    arguments["policy_kwargs"] = _policy_kwargs(agent, policy)
    return {name: to_json(value, name) for name, value in {**arguments, **_replay(agent)}.items()}


def _replay(agent: BaseAlgorithm) -> dict[str, Any]:
    """Return the arguments of the replay buffer, but those that the algorithm gives it itself."""
    if not isinstance(agent, OffPolicyAlgorithm):
        return {}
    if isinstance(agent, Rainbow):
        return {"replay_buffer_class": agent.replay_buffer_class, "replay_buffer_kwargs": agent.replay_buffer_kwargs}
    chosen = agent.replay_buffer_class in _BUFFERS  # by the algorithm itself, from its other arguments
    kwargs = {key: value for key, value in agent.replay_buffer_kwargs.items() if not chosen or key not in ("n_steps", "gamma")}
    return {"replay_buffer_class": None if chosen else agent.replay_buffer_class, "replay_buffer_kwargs": kwargs}


def _policy_kwargs(agent: BaseAlgorithm, policy: str) -> dict[str, Any]:
    """Return the policy's arguments, with the encoder's digest and dtype whether or not they were given."""
    kwargs = dict(agent.policy_kwargs)
    extractor = next((module for module in agent.policy.modules() if isinstance(module, PretrainedExtractor)), None)
    if extractor is None:
        return kwargs
    encoder = extractor.encoder_on(agent.device)
    if isinstance(agent.policy, EncoderPolicy):
        kwargs |= {"sha256": encoder.sha256, "dtype": dtype_name(encoder.dtype)}
    else:
        given = kwargs.get("features_extractor_kwargs", {})
        made_by = {"sha256": encoder.sha256, "dtype": dtype_name(encoder.dtype)}
        kwargs["features_extractor_kwargs"] = {"encoder": encoder.name, **given, **made_by}
    check_encoder_source(encoder_arguments(policy, kwargs) or {})
    return kwargs


_ABOUT = """
# {algorithm} playing {env_id}

A trained **{algorithm}** agent for **{env_id}**, made with
[Stable-Baselines3](https://github.com/DLR-RM/stable-baselines3) and pretrainrl.
"""
_SAFE = """
## Use

`{description}` and `{name}.safetensors` are the agent without any pickle. They are read by

```python
from pretrainrl.integrations.hub import load_from_hub

agent = load_from_hub("{repo_id}", env)
```
"""
_ZIP = """
`{name}.zip` is the agent as Stable-Baselines3 saves it. It holds pickles, which run code when they are loaded: only if you
trust its author.

```python
from huggingface_sb3 import load_from_hub

path = load_from_hub("{repo_id}", "{name}.zip")
```
"""


def render_agent_card(
    repo_id: str, name: str, algorithm: str, env_id: str, score: tuple[float, float] | None, encoder: str | None, safe: bool
) -> str:
    """Write `README.md`, with the metadata that the hub and the zoo read.

    Args:
        repo_id: Id of the repository.
        name: Name of the agent's files.
        algorithm: Name of its class, e.g. `Rainbow`.
        env_id: Id of its environment.
        score: Mean and standard deviation of an episode's return; None where it was not evaluated.
        encoder: Name of the encoder that it learned from, if any.
        safe: Whether the repository has a description.

    Raises:
        MissingExtraError: When huggingface_hub is not installed.
    """
    hub, cards = require("huggingface_hub", "hub"), require("huggingface_hub.repocard", "hub")
    metadata = {
        "library_name": "stable-baselines3",
        "tags": [env_id, "deep-reinforcement-learning", "reinforcement-learning", "stable-baselines3", "pretrainrl"],
    }
    if score is not None:
        metadata |= cards.metadata_eval_result(
            model_pretty_name=algorithm,
            task_pretty_name="reinforcement-learning",
            task_id="reinforcement-learning",
            metrics_pretty_name="mean_reward",
            metrics_id="mean_reward",
            metrics_value=f"{score[0]:.2f} +/- {score[1]:.2f}",
            dataset_pretty_name=env_id,
            dataset_id=env_id,
        )
    on = f"\nIt learned from the frozen encoder `{encoder}`.\n" if encoder else ""
    text = (_ABOUT + on + (_SAFE if safe else "\n## Use\n") + _ZIP).format(
        algorithm=algorithm, env_id=env_id, repo_id=repo_id, name=name, description=DESCRIPTION
    )
    return f"---\n{hub.ModelCardData(**metadata).to_yaml()}\n---\n{text}"


DESCRIPTION = "agent.json"  # beside <name>.zip and <name>.safetensors
_ZOO = {"recurrentppo": "ppo_lstm"}  # the zoo's names are those of the classes in lower case, but for this one


def algorithm_name(algorithm: type) -> str:
    """Return the zoo's name of an algorithm."""
    name = algorithm.__name__.lower()
    return _ZOO.get(name, name)


def agent_name(algorithm: str, env_id: str) -> str:
    """Return `<algorithm>-<environment>`, with `/` as `-` and without the module of `module:environment`.

    Raises:
        InputError: When it cannot be an id of Gymnasium.
    """
    if re.fullmatch(r"([\w.]+:)?[\w./-]+", env_id) is None:
        raise InputError(f"expected an environment's id such as PongNoFrameskip-v4 or ALE/Pong-v5, got {env_id!r}")
    return f"{algorithm}-{env_id.replace('/', '-').rpartition(':')[2]}"


def repository(repo_id: str, name: str | None = None) -> str:
    """Complete an organization to the id of a repository, and check it.

    Raises:
        InputError: When it is no id of a repository.
    """
    completed = repo_id if "/" in repo_id or name is None else f"{repo_id}/{name}"
    if re.fullmatch(r"[\w.-]+/[\w.-]+", completed) is None:
        raise InputError(f"expected a repository such as someone/rainbow-PongNoFrameskip-v4, got {repo_id!r}")
    return completed
