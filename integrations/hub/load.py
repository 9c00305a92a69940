"""Loading agents from the hub, without unpickling anything."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from stable_baselines3.common.base_class import BaseAlgorithm, maybe_make_env
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.vec_env import VecEnv, unwrap_vec_normalize

from pretrainrl.errors import CardError, InputError, PretrainRLError, UnknownNameError, WeightsError
from pretrainrl.integrations.hub.description import (
    ALGORITHMS,
    DESCRIPTION,
    Description,
    ObservedEncoder,
    argument_names,
    check_encoder_source,
    encoder_arguments,
    policy_classes,
    repository,
)
from pretrainrl.integrations.hub.json_codec import from_json
from pretrainrl.integrations.hub.push import tensors_of
from pretrainrl.integrations.sb3 import Rainbow
from pretrainrl.integrations.sb3.rainbow.arguments import check_network
from pretrainrl.optional import require
from pretrainrl.weights import fetch, parse_tensors, state_dict_errors

T = TypeVar("T")


def load_from_hub(
    repo_id: str,
    env: GymEnv | str,
    *,
    revision: str | None = None,
    device: torch.device | str = "auto",
    token: str | None = None,
    **arguments: Any,
) -> BaseAlgorithm:
    """Load an agent that `push_to_hub` has pushed. Nothing is unpickled, so nothing that it says is run.

    The agent is built anew, and its weights and those of its encoder are checked against their SHA-256. It plays as it did
    where it was pushed. It can also go on learning, from an empty replay buffer and with a new optimizer.

    Args:
        repo_id: Repository, `<organization>/<name>`.
        env: Environment that it plays in, wrapped as the one in which it learned.
        revision: Commit, branch or tag; a commit is always the same agent.
        device: Device of the networks; `auto` takes an accelerator if there is one.
        token: Token of the hub; by default that of `hf auth login` or `HF_TOKEN`.
        **arguments: Arguments of the algorithm instead of the agent's, such as a small `buffer_size` for one that only plays.

    Raises:
        InputError: When the agent was pushed as a zip only, or the environment or arguments do not fit.
        CardError: When the agent's description is damaged.
        UnknownNameError: When its encoder is not registered here.
        WeightsError: When its weights cannot be fetched, are damaged or do not fit, or its encoder is another one here.
        MissingExtraError: When huggingface_hub is not installed.
    """
    repo_id = repository(repo_id)
    where = f"{repo_id}/{DESCRIPTION}"
    download = partial(_fetch, repo_id, revision=revision, token=token)
    description = _whole(partial(download, DESCRIPTION), lambda path: _read(path, where))
    weights = description.weights
    file = _whole(partial(download, weights.file), lambda path: fetch([str(path)], weights.sha256))
    tensors = parse_tensors(file)
    agent = _build(description, env, device, arguments, where)
    _set_tensors(agent, tensors, repo_id)
    agent.num_timesteps = description.num_timesteps
    if description.exploration_rate is not None:
        agent.exploration_rate = description.exploration_rate  # type: ignore[attr-defined]
    agent.policy.set_training_mode(False)
    return agent


def _whole(download: Callable[..., Path], read: Callable[[Path], T]) -> T:
    """Read what is downloaded; a copy that the hub's client has kept, and that was damaged since, is downloaded again."""
    path = download()
    try:
        return read(path)
    except (CardError, WeightsError) as damage:
        try:
            path = download(again=True)
        except WeightsError:
            raise damage from None
        return read(path)


def _fetch(repo_id: str, file: str, *, revision: str | None, token: str | None, again: bool = False) -> Path:
    """Download a file, unless the hub's client has it already and `again` is not set."""
    hub = require("huggingface_hub", "hub")
    errors = require("huggingface_hub.errors", "hub")
    try:
        where = {"repo_type": "model", "revision": revision, "force_download": again}
        return Path(hub.HfApi(token=token).hf_hub_download(repo_id, file, **where))
    except errors.EntryNotFoundError as error:
        if isinstance(error, errors.LocalEntryNotFoundError):
            raise WeightsError(f"{repo_id} cannot be reached, and {file} was not fetched before") from error
        if file != DESCRIPTION:
            raise WeightsError(f"{repo_id} has no {file}, which its {DESCRIPTION} names; push the agent again") from error
        raise InputError(
            f"{repo_id} has no {DESCRIPTION}: its agent can only be unpickled, which runs what its author wrote. If you trust "
            f"it, take huggingface_sb3's load_from_hub and the algorithm's load"
        ) from error
    except Exception as error:  # the hub's client raises its own, httpx's and OS errors
        raise WeightsError(f"{file} was not fetched from {repo_id} ({type(error).__name__}: {error})") from error


def _read(path: Path, where: str) -> Description:
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise CardError(f"{where} is not JSON that can be read: {error}") from error
    if not isinstance(table, dict):
        raise CardError(f"{where} is not a JSON object")
    return Description.parse(table, where)


def _build(
    description: Description, env: GymEnv | str, device: torch.device | str, given: dict[str, Any], where: str
) -> BaseAlgorithm:
    """Make the agent that the description describes, with new weights."""
    if description.algorithm not in ALGORITHMS:
        raise UnknownNameError.of("algorithm", description.algorithm, ALGORITHMS)
    algorithm = ALGORITHMS[description.algorithm]
    policies = policy_classes(algorithm)
    if description.policy not in policies:
        raise UnknownNameError.of(f"policy of {description.algorithm}", description.policy, policies)
    if others := description.arguments.keys() - argument_names(algorithm):
        raise CardError(f"{where} has arguments that are not {algorithm.__name__}'s: {', '.join(sorted(others))}")
    arguments = from_json(description.arguments)
    _check_arguments(description, arguments, where)
    wrapped = _wrapped(algorithm, env)
    _check_environment(description, wrapped)
    try:
        both = {**arguments, **given}
        # In two steps, as Stable-Baselines3's own load: what only learning needs is checked when learning begins.
        unmade: Any = {"_init_setup_model": False}
        agent = algorithm(policies[description.policy], wrapped, **both, device=device, **unmade)
        if isinstance(agent, Rainbow):
            check_network(arguments, given)
        agent._setup_model()
        return agent
    except PretrainRLError:
        raise
    except (AssertionError, AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"{where} and {given or 'no further arguments'} are no {algorithm.__name__}: {error}") from error


def _check_arguments(description: Description, arguments: dict[str, Any], where: str) -> None:
    """Check what the agent's own encoder is, before anything is read for it."""
    kwargs = arguments.get("policy_kwargs")
    if not isinstance(kwargs, dict):
        raise CardError(f"{where} has no policy_kwargs")
    encoder = encoder_arguments(description.policy, kwargs)
    if encoder is not None:
        names = (encoder.get("encoder"), encoder.get("sha256")) if isinstance(encoder, dict) else ()
        if not names or not all(isinstance(name, str) for name in names):
            raise CardError(f"{where} does not say which encoder, and with which sha256")
        check_encoder_source(encoder)


def _wrapped(algorithm: type[BaseAlgorithm], env: GymEnv | str) -> VecEnv:
    """Return the environment as Stable-Baselines3 shows it to the agent."""
    made = maybe_make_env(env, verbose=0)
    assert made is not None
    return algorithm._wrap_env(made, verbose=0)


def _check_environment(description: Description, env: VecEnv) -> None:
    """Check that the agent meets what it learned from.

    Raises:
        InputError: When it does not; the message names both.
    """
    normalize = unwrap_vec_normalize(env)
    if normalize is not None and normalize.norm_obs:
        raise InputError("the agent learned from observations that VecNormalize had not changed; take norm_obs=False")
    here, there = ObservedEncoder.of(env.observation_space), description.observed_encoder
    if there is not None and (here is None or here.model_copy(update={"name": there.name}) != there):
        arguments = f"{there.name!r}, features={there.features!r}, dtype={there.dtype!r}"
        given = "no features" if here is None else _phrase(here)
        raise InputError(
            f"the agent observes features of encoder {_phrase(there)}, but the environment gives {given}; "
            f"wrap it in VecEncodeObservation(env, {arguments})"
        )
    for what, expected, given in (
        ("observes", description.observation_space, str(env.observation_space)),
        ("acts in", description.action_space, str(env.action_space)),
    ):
        if expected != given:
            raise InputError(f"the agent {what} {expected}, but the environment has {given}")


def _phrase(observed: ObservedEncoder) -> str:
    return f"{observed.name!r} with sha256 {observed.sha256[:12]}... ({observed.features} in {observed.dtype})"


def _set_tensors(agent: BaseAlgorithm, tensors: dict[str, torch.Tensor], repo_id: str) -> None:
    own = tensors_of(agent.policy)
    if wrong := state_dict_errors(own, tensors):
        raise WeightsError(f"the weights in {repo_id} do not fit its {DESCRIPTION}: {'; '.join(wrong[:5])}")
    with torch.no_grad():
        for key, tensor in own.items():
            tensor.copy_(tensors[key])
