"""Games that are played at random or by an agent, and written as datasets."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import minari

from pretrainrl.data.collect import REPEAT_PROBABILITY, collect_episodes
from pretrainrl.errors import InputError
from pretrainrl.games import find_game
from pretrainrl.integrations.minari.metadata import dataset_folder, dataset_id
from pretrainrl.integrations.minari.store import segments_of
from pretrainrl.integrations.minari.write import exists_error, write_dataset
from pretrainrl.paths import output_file

if TYPE_CHECKING:
    from pretrainrl.integrations.sb3.recording.agent_log import Player


def collection_settings(
    steps: int,
    *,
    agent: str = "random",
    n_envs: int = 8,
    seed: int = 0,
    sticky_actions: float = 0.25,
    keep_every: int = 1,
    repeat_probability: float | None = None,
    ram: bool = False,
    greedy: bool = False,
    segment_steps: int | None = None,
) -> dict[str, Any]:
    """Return all that decides about a collection's episodes; the dataset's metadata keep it under `collection`.

    Args:
        steps: Transitions that the player experiences, over all environments together.
        agent: Player: `random`, the name of an agent that learns, or the path of an agent saved by Stable-Baselines3.
        n_envs: Number of games played at the same time.
        seed: Seed of the player and the games.
        sticky_actions: Probability in [0, 1] that the game repeats the action of the raw frame before.
        keep_every: Number of episodes of which one is kept, whole.
        repeat_probability: Probability in [0, 1) that the random player repeats its last action; by default 0.75.
        ram: Whether the console's 128 bytes of memory are stored, too; for the random player only.
        greedy: Whether a saved agent takes the action that it thinks best rather than one that it draws.
        segment_steps: Steps of each game after which all games of an agent begin anew and all is saved.

    Raises:
        UnknownNameError: There is no such agent.
        InputError: A number is out of range, or a setting does not belong to the player.
    """
    if not 0 <= sticky_actions <= 1:
        raise InputError(f"sticky_actions, the games' action_repeat_probability, must be in [0, 1], got {sticky_actions}")
    if not 1 <= keep_every <= steps:
        raise InputError(f"keep_every must be in 1..{steps}, or no episode is left of {steps} steps; it is {keep_every}")
    common = {"steps": steps, "num_envs": n_envs, "seed": seed, "sticky_actions": sticky_actions, "keep_every": keep_every}
    if agent == "random":
        if segment_steps is not None or greedy:
            raise InputError(f"{'greedy' if greedy else 'segment_steps'} is for agents, not for random play")
        repeat_probability = REPEAT_PROBABILITY if repeat_probability is None else repeat_probability
        if not 0 <= repeat_probability < 1:
            raise InputError(f"repeat_probability must be in [0, 1), not {repeat_probability}")
        return {**common, "agent": agent, "repeat_probability": repeat_probability, "ram": ram}
    if ram or repeat_probability is not None:
        raise InputError(f"{'ram' if ram else 'repeat_probability'} is for random play, not for the agent {agent!r}")
    from pretrainrl.integrations.sb3.recording.agent_log import SEGMENT_STEPS

    found = _find_agent(agent)
    if greedy and found.path is None:
        raise InputError(f"greedy is for saved agents; {agent!r} explores while it learns")
    own = {**found.settings(steps, n_envs), **({"greedy": True} if greedy else {})}
    return {**common, **own, "segment_steps": segment_steps or SEGMENT_STEPS}


def default_kind(agent: str) -> str:
    """Return the kind of a dataset of this player: `random`, the name of an agent that learns, or `agent` for a saved one.

    Raises:
        UnknownNameError: There is no such agent.
    """
    return agent if agent == "random" else _find_agent(agent).kind


def check_agent_for(agent: str, games: list[str], *, trust_pickle: bool = False) -> None:
    """Check that a saved agent can play `games`, before any game is collected; other players can play all games.

    Args:
        agent: Name or path of the agent.
        games: Slugs of the games.
        trust_pickle: Whether a saved agent's pickles are loaded, which runs code.

    Raises:
        UnknownNameError: There is no such agent.
        InputError: The agent cannot be loaded, or expects other observations or actions.
    """
    if agent != "random" and games:
        from pretrainrl.integrations.sb3.recording.agent_log import check_games

        check_games(_find_agent(agent, trust_pickle), games)


def collect_dataset(
    game: str,
    steps: int,
    *,
    agent: str = "random",
    kind: str | None = None,
    version: int = 0,
    resume: bool = False,
    overwrite: bool = False,
    save_agent: str | Path | None = None,
    trust_pickle: bool = False,
    progress: Callable[[int], None] | None = None,
    **settings: Any,
) -> minari.MinariDataset:
    """Play `game` and write it as `pretrainrl/atari/<game>-<kind>-v<version>`.

    The random player is that of `collect_episodes`. The whole learning of an agent that learns is logged; what it has
    experienced is saved now and then, so that an interrupted collection can go on.

    Args:
        game: Name of the game in any spelling.
        steps: Transitions that the player experiences.
        agent: Player: `random`, the name of an agent that learns, or the path of a saved agent.
        kind: Kind in the dataset's id; by default that of the player.
        version: Version in the dataset's id.
        resume: Whether to go on with an interrupted collection of the same settings.
        overwrite: Whether to replace a dataset of the same id.
        save_agent: File, `<name>.zip`, to which an agent that learns is saved in the end.
        trust_pickle: Whether a saved agent's pickles are loaded, which runs whatever its author wrote.
        progress: Function that is called with the number of new transitions after every step.
        **settings: Further settings as `collection_settings` takes them.

    Raises:
        UnknownNameError: There is no such game or agent.
        InputError: A number is out of range, a setting does not belong to the player, a folder cannot be written to, or
            another process collects the same.
        DatasetError: The id is taken, or an interrupted collection is there and `resume` is not set.
    """
    recorded = collection_settings(steps, agent=agent, **settings)
    slug, name = find_game(game).slug, dataset_id(game, kind or default_kind(agent), version)
    metadata = {"collection": recorded}
    if save_agent is not None:
        if agent == "random" or _find_agent(agent).path is not None:
            raise InputError(f"save_agent is for agents that learn, not for {agent!r}")
        save_agent = output_file(save_agent)
    if agent == "random":
        own = {key: value for key, value in recorded.items() if key not in ("agent", "keep_every", "num_envs")}
        played = collect_episodes(slug, n_envs=recorded["num_envs"], progress=progress, **own)
        episodes = islice(played, 0, None, recorded["keep_every"])
        algorithm = f"random actions, the last one repeated with probability {recorded['repeat_probability']:g}"
        return write_dataset(
            name,
            episodes,
            sticky_actions=recorded["sticky_actions"],
            algorithm=algorithm,
            metadata=metadata,
            overwrite=overwrite,
        )
    if dataset_folder(name).exists() and not overwrite:
        raise exists_error(name)  # before hours of play

    from pretrainrl.integrations.sb3.recording.agent_log import log_agent

    found = _find_agent(agent, trust_pickle)
    play = {key: recorded[key] for key in ("seed", "sticky_actions", "keep_every", "segment_steps")}
    with segments_of(name, slug, recorded, resume=resume) as segments:
        greedy = recorded.get("greedy", False)
        n_envs = recorded["num_envs"]
        log_agent(slug, found, steps, segments, n_envs=n_envs, greedy=greedy, save_agent=save_agent, progress=progress, **play)
        return write_dataset(
            name,
            segments.episodes(),
            sticky_actions=recorded["sticky_actions"],
            algorithm=found.algorithm,
            metadata=metadata,
            overwrite=overwrite,
        )


def _find_agent(name: str, trust_pickle: bool = False) -> Player:
    from pretrainrl.integrations.sb3.recording.agent_log import find_agent

    return find_agent(name, trust_pickle=trust_pickle)
