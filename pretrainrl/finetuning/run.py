"""Fine-tuning from names to a folder of results."""

from __future__ import annotations

import time
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from pretrainrl.cards import find_encoder
from pretrainrl.device import resolve_device, resolve_dtype
from pretrainrl.errors import InputError
from pretrainrl.finetuning.agents import ObservationSetup, make_run_agent
from pretrainrl.finetuning.config import FinetuneConfig, FinetuneRecord
from pretrainrl.finetuning.folder import BEST, EVALUATIONS, FinetuneFolder
from pretrainrl.finetuning.segments import FinetuneSegments, PeriodicTruncation
from pretrainrl.finetuning.settings import package_versions, recorded_settings, run_preset
from pretrainrl.integrations.minari import AtariDataset, open_dataset
from pretrainrl.integrations.sb3.agents import rollout_steps
from pretrainrl.integrations.sb3.behavior_cloning.demonstrations import open_demonstrations
from pretrainrl.networks.necks import Neck
from pretrainrl.paths import output_folder
from pretrainrl.progress import progress_bar
from pretrainrl.results import Evaluation, FinetuneResult
from pretrainrl.runs.interrupt import InterruptedRunError, stop_requests
from pretrainrl.weights import resolve_source


def finetune(
    algorithm: str,
    game: str,
    encoder: str | Path,
    *,
    preset: str | None = None,
    features: str | None = None,
    neck: Neck = "mlp",
    end_to_end: bool = False,
    weights: str | None = None,
    dataset: str | None = None,
    steps: int | None = None,
    epochs: int | None = None,
    n_envs: int = 8,
    seed: int = 0,
    eval_freq: int | None = None,
    eval_episodes: int = 10,
    eval_epsilon: float | None = None,
    max_episode_steps: int = 27_000,
    sticky_actions: float = 0.0,
    checkpoint_every: int | None = None,
    out: str | Path | None = None,
    device: str = "auto",
    dtype: str = "float32",
    resume: bool = False,
    progress: bool = True,
) -> FinetuneResult:
    """Train an agent on a frozen encoder.

    The run's folder is `<out>/<algorithm>/<game>_<seed + 1>`, as RL Zoo counts. In it are `evaluations.npz`, `0.monitor.csv`
    (for agents that play), `best_model.zip`, the final agent, `config.toml` and the last of `checkpoints`. On a CPU, with the
    same number of threads, a run that was interrupted and gone on with ends as one that was not.

    Args:
        algorithm: Name of an agent's card: `rainbow`, `qrdqn`, `ppo`, `bc`, or one that another package registers.
        game: Name of the game, in any spelling.
        encoder: Name, run folder or card file of the encoder, as `make_encoder` takes it.
        preset: Name of the card's preset of settings. The default is the one that the card names for fine-tuning.
        features: Kind of what the agent observes: `flat`, `pooled` or `map`, encoded once when a frame is made; or `pixels`,
            which are encoded at every update, by `rainbow` and `bc` after random augmentation as in Atari-PB. The default is
            what the encoder's card says, flat up to 8,192 values and else pooled; and `map` for a neck that reads maps.
        neck: Name of what is trained between encoder and heads: `mlp`, which standardizes each feature; or, on maps, `spatial`
            or Atari-PB's `spatial_mlp`. See `policy_kwargs` of Stable-Baselines3's integration.
        end_to_end: Whether the encoder is trained with the agent, from its weights on, as a baseline for frozen ones. It then
            reads pixels, computes in float32, and is in the saved agent.
        weights: Weights instead of the card's, as `make_encoder` takes them.
        dataset: Minari id of a dataset of the game, for `bc` only.
        steps: Number of transitions over all games together. The default is the preset's, 50,000, or that of the run that is
            gone on with; `bc` takes none.
        epochs: Number of passes over the dataset, for `bc` only. The default is the preset's, 100, or that of the run that is
            gone on with.
        n_envs: Number of games played together.
        seed: Seed of the agent and the games.
        eval_freq: Number of steps between two evaluations, by default 10,000; for `bc`, of epochs, 10. One more is at the end.
        eval_episodes: Number of whole games in an evaluation.
        eval_epsilon: Share of random actions among greedy ones in an evaluation, in [0, 1]. The default is what the agent's
            card says. Agents that draw their actions, such as `ppo`, take none.
        max_episode_steps: Number of the agent's steps after which a game is cut.
        sticky_actions: Chance that the game repeats the last action, in [0, 1], in learning and evaluation.
        checkpoint_every: Number of steps between two checkpoints, where games are cut, by default 25,000; for `bc`, of epochs,
            10.
        out: Folder of runs, by default `runs/finetune/<encoder>-<features>`.
        device: Device of agent and encoder: `auto`, `cpu`, `cuda`, or `cuda:1` for the second one.
        dtype: Dtype in which the encoder computes: `float32`, `bfloat16`, or `auto` for bfloat16 where the device has it in
            hardware. The result and `config.toml` have what was chosen.
        resume: Whether to go on with the run. Of a finished run the result is returned, unless more `steps` or `epochs` are
            asked for: then it is extended, with the schedules that a run of the new length has from there on.
        progress: Whether to show a progress bar.

    Returns:
        Scores and files of the run.

    Raises:
        PretrainRLError: A name, number, dataset or folder does not fit, or weights cannot be had.
        InterruptedRunError: SIGINT or SIGTERM asked to stop.
    """
    began = time.monotonic()
    encoder = find_encoder(encoder)
    weights = None if weights is None else resolve_source(weights)
    config = FinetuneConfig.of(
        algorithm,
        game,
        encoder,
        preset=preset,
        dataset=dataset,
        features=features,
        neck=neck,
        end_to_end=end_to_end,
        steps=steps,
        epochs=epochs,
        n_envs=n_envs,
        seed=seed,
        eval_freq=eval_freq,
        eval_episodes=eval_episodes,
        eval_epsilon=eval_epsilon,
        max_episode_steps=max_episode_steps,
        sticky_actions=sticky_actions,
        checkpoint_every=checkpoint_every,
    )
    runs = output_folder(Path("runs") / "finetune" / f"{config.encoder}-{config.features}" if out is None else out)
    folder = FinetuneFolder(runs, config, resume=resume)
    demonstrations = None if config.dataset is None else open_dataset(config.dataset)
    chosen = resolve_device(device)
    setup = ObservationSetup(encoder, weights, config.features, chosen, resolve_dtype(dtype, chosen), neck, end_to_end, config)
    stages = folder.stages(config, default_length=steps is None and epochs is None)
    records = [_record(stage, setup, demonstrations) for stage in stages]
    folder.check(records[0])
    unfinished = [record for record in records if not folder.is_finished(record.run)]
    for record in unfinished:
        _Run(record, setup, folder, progress=progress).run(demonstrations)
    return FinetuneResult(
        folder=folder.path,
        evaluations=_read_evaluations(folder.path / EVALUATIONS),
        agent_path=folder.agent,
        best_agent_path=folder.path / BEST,
        dtype=records[-1].encoder_dtype,
        seconds=time.monotonic() - began if unfinished else 0.0,
        lengths=(unfinished[-1] if unfinished else records[0]).run.lengths,
    )


def _record(config: FinetuneConfig, setup: ObservationSetup, demonstrations: AtariDataset | None) -> FinetuneRecord:
    return FinetuneRecord(
        run=config,
        dataset_fingerprint=None if demonstrations is None else demonstrations.fingerprint,
        encoder_sha256=setup.model.sha256,
        encoder_dtype=str(setup.dtype).removeprefix("torch."),
        settings=recorded_settings(run_preset(config)),
        versions=package_versions(),
    )


def _read_evaluations(path: Path) -> tuple[Evaluation, ...]:
    try:
        with np.load(path) as saved:
            table = zip(*(saved[key].tolist() for key in ("timesteps", "results", "ep_lengths")), strict=True)
            return tuple(Evaluation(timestep, tuple(scores), tuple(lengths)) for timestep, scores, lengths in table)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path} is damaged ({error}); the run is over, and its scores cannot be read") from error


class _Run:
    """Games, agent and folder of one run."""

    def __init__(
        self,
        record: FinetuneRecord,
        setup: ObservationSetup,
        folder: FinetuneFolder,
        *,
        progress: bool,
    ) -> None:
        self.record, self.config, self.setup, self.folder = record, record.run, setup, folder
        self.preset, self.progress = run_preset(record.run), progress

    def run(self, dataset: AtariDataset | None) -> None:
        """Learn, evaluate, and write the agent; nothing is written before all that it needs is there."""
        playing = min(self.config.n_envs, self.config.eval_episodes)
        eval_env = self.setup.make_env(self.config.game, playing, seed=self.config.seed, terminal_on_life_loss=False)
        try:
            if dataset is None:
                self._play(eval_env)
            else:
                self._clone(dataset, eval_env)
        finally:
            eval_env.close()

    def _clone(self, dataset: AtariDataset, eval_env: VecEnv) -> None:
        agent: Any = make_run_agent(self.config, self.setup, eval_env, self.preset)
        # Features are computed here, where nothing else shows progress.
        open_demonstrations(agent, dataset, pixels=agent.augment, progress=self.progress)
        self._learn(agent, dataset, self.config.checkpoint_every, eval_env)

    def _play(self, eval_env: VecEnv) -> None:
        config, rollout = self.config, rollout_steps(self.config.agent, self.preset)
        each = rollout * -(-config.checkpoint_every // (rollout * config.n_envs))
        env = PeriodicTruncation(self.setup.make_env(config.game, config.n_envs, seed=config.seed), each)
        try:
            agent = make_run_agent(config, self.setup, env, self.preset)
            self._learn(agent, config.length, each * config.n_envs, eval_env)
        finally:
            env.close()

    def _learn(self, agent: BaseAlgorithm, source: Any, every: int, eval_env: VecEnv) -> None:
        """Learn from `source`, a number of steps or a dataset, in segments of `every` steps or epochs."""
        config, folder = self.config, self.folder
        state = folder.open(self.record)
        try:
            with stop_requests() as stop, progress_bar(disable=not self.progress) as shown:
                title = f"{config.algorithm}, {'epochs' if config.cloning else 'steps'}"
                task = shown.add_task(title, total=config.length, note="")

                def bar(position: int, remark: str) -> None:
                    shown.update(task, completed=min(position, config.length), note=remark)

                agent.learn(source, callback=FinetuneSegments(config, folder, state, every, eval_env, bar, stop))
            folder.save_agent(agent, folder.agent)
        except InterruptedRunError as error:
            raise InterruptedRunError(f"{error}; go on with the same command and --resume ({folder.path})") from error
        finally:
            folder.close()
