"""Fine-tuning from names to a folder of results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from pretrainrl.device import resolve_device
from pretrainrl.finetuning.agents import ObservationSetup, make_agent
from pretrainrl.finetuning.config import Config, Record
from pretrainrl.finetuning.folder import FinetuneFolder
from pretrainrl.finetuning.segments import FinetuneSegments, PeriodicTruncation
from pretrainrl.finetuning.settings import rollout_steps, settings, to_toml_values, versions
from pretrainrl.integrations.minari import AtariDataset, open_dataset
from pretrainrl.integrations.sb3.behavior_cloning.demonstrations import open_demonstrations
from pretrainrl.networks.necks import Neck
from pretrainrl.progress import progress_bar
from pretrainrl.runs.interrupt import InterruptedRunError, stop_requests


def finetune(
    algorithm: str,
    game: str,
    encoder: str | Path,
    *,
    dataset: str | None = None,
    features: str | None = None,
    neck: Neck = "mlp",
    weights: str | None = None,
    steps: int | None = None,
    epochs: int | None = None,
    n_envs: int = 8,
    seed: int = 0,
    eval_freq: int | None = None,
    eval_episodes: int = 10,
    checkpoint_every: int | None = None,
    out: str | Path | None = None,
    device: str = "auto",
    resume: bool = False,
    progress: bool = True,
) -> Path:
    """Train an agent on a frozen encoder, and return the folder of its results: `<out>/<algorithm>/<game>_<seed + 1>`.

    In it are `evaluations.npz`, `0.monitor.csv` (of those that play), `best_model.zip`, the final agent and `config.toml`. On
    a CPU, with the same number of threads, a run that was interrupted and gone on with ends as one that was not.

    Args:
        algorithm: `rainbow`, `qrdqn`, `ppo` or `bc`.
        game: any spelling.
        encoder: name, run folder or card file, as `make_encoder` takes it.
        dataset: of `bc`: id of a Minari dataset of the game.
        features: Kind of what the agent observes: `flat`, `pooled` or `map`, encoded once when a frame is made; or `pixels`,
            which are encoded at every update, by `rainbow` and `bc` after random augmentation as in Atari-PB. By default
            what the encoder's card says, flat up to 8,192 values and else pooled; `map` for a neck that reads maps.
        neck: Name of what is trained between encoder and heads: `mlp`, which standardizes each feature; or, on maps, `spatial`
            or Atari-PB's `spatial_mlp`. See `policy_kwargs` of Stable-Baselines3's integration.
        weights: instead of the card's, as `make_encoder` takes them.
        steps: transitions over all games together, by default 50,000; not of `bc`.
        epochs: of `bc`: passes over the dataset, by default 100.
        n_envs: games played at the same time.
        seed: of the agent and the games.
        eval_freq: steps between two evaluations, by default 10,000; of `bc`, epochs, 10. There is one at the end, too.
        eval_episodes: whole games in each.
        checkpoint_every: steps between two checkpoints, by default 25,000, where games are cut; of `bc`, epochs, 10.
        out: folder of runs, by default `runs/finetune/<encoder>-<features>`.
        device: `auto`, `cpu` or `cuda`.
        resume: go on with the run, or return what a finished one has found.
        progress: show a progress bar.

    Raises:
        PretrainRLError: for names, numbers, weights, a dataset or a folder that do not fit.
        InterruptedRunError: when asked to stop by SIGINT or SIGTERM.
    """
    config = Config.of(
        algorithm,
        game,
        encoder,
        dataset=dataset,
        features=features,
        neck=neck,
        steps=steps,
        epochs=epochs,
        n_envs=n_envs,
        seed=seed,
        eval_freq=eval_freq,
        eval_episodes=eval_episodes,
        checkpoint_every=checkpoint_every,
    )
    runs = Path("runs") / "finetune" / f"{config.encoder}-{config.features}" if out is None else Path(out).expanduser()
    folder = FinetuneFolder(runs, config, resume=resume)
    shown = None if config.dataset is None else open_dataset(config.dataset)
    sight = ObservationSetup(encoder, weights, config.features, resolve_device(device), neck)
    arguments = settings(config)
    record = Record(
        run=config,
        dataset_fingerprint=None if shown is None else shown.fingerprint,
        encoder_sha256=sight.model.sha256,
        encoder_dtype=str(sight.dtype).removeprefix("torch."),
        settings=to_toml_values(arguments),
        versions=versions(),
    )
    folder.check(record)
    if not folder.finished:
        _Run(record, sight, folder, arguments, progress=progress).run(shown)
    folder.drop_checkpoints()
    return folder.path


class _Run:
    """Games, agent and folder of one run."""

    def __init__(
        self, record: Record, sight: ObservationSetup, folder: FinetuneFolder, arguments: dict[str, Any], *, progress: bool
    ) -> None:
        self.record, self.config, self.sight, self.folder = record, record.run, sight, folder
        self.arguments, self.progress = arguments, progress

    def run(self, dataset: AtariDataset | None) -> None:
        """Learn, evaluate, and write the agent; nothing is written before all that it needs is there."""
        playing = min(self.config.n_envs, self.config.eval_episodes)
        whole = self.sight.games(self.config.game, playing, seed=self.config.seed, terminal_on_life_loss=False)
        try:
            if dataset is None:
                self._play(whole)
            else:
                self._clone(dataset, whole)
        finally:
            whole.close()

    def _clone(self, dataset: AtariDataset, whole: VecEnv) -> None:
        agent: Any = make_agent(self.config, self.sight, whole, self.arguments)
        # Features are computed here, where nothing else shows progress.
        open_demonstrations(agent, dataset, pixels=agent.augment, progress=self.progress)
        self._learn(agent, dataset, self.config.checkpoint_every, whole)

    def _play(self, whole: VecEnv) -> None:
        config, rollout = self.config, rollout_steps(self.config)
        each = rollout * -(-config.checkpoint_every // (rollout * config.n_envs))
        games = PeriodicTruncation(self.sight.games(config.game, config.n_envs, seed=config.seed), each)
        try:
            agent = make_agent(config, self.sight, games, self.arguments)
            self._learn(agent, config.length, each * config.n_envs, whole)
        finally:
            games.close()

    def _learn(self, agent: BaseAlgorithm, source: Any, every: int, whole: VecEnv) -> None:
        """Learn from `source`, a number of steps or a dataset, in segments of `every` steps or epochs."""
        config, folder = self.config, self.folder
        state = folder.open(self.record)
        try:
            with stop_requests() as stop, progress_bar(disable=not self.progress) as shown:
                title = f"{config.algorithm}, {'epochs' if config.cloning else 'steps'}"
                task = shown.add_task(title, total=config.length, note="")

                def bar(position: int, remark: str) -> None:
                    shown.update(task, completed=min(position, config.length), note=remark)

                agent.learn(source, callback=FinetuneSegments(config, folder, state, every, whole, bar, stop))
            folder.save_agent(agent, folder.agent)
        except InterruptedRunError as error:
            raise InterruptedRunError(f"{error}; go on with the same command and --resume ({folder.path})") from error
        finally:
            folder.close()
