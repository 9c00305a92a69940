"""One function for each command that makes something: the same arguments, names and defaults, and a typed result.

`finetune` has its own module, `pretrainrl.finetuning`. Everything heavy is imported when a function is called.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pretrainrl.arguments import MAX_PROCESSES, check_counts, check_seed
from pretrainrl.errors import InputError, PretrainRLError
from pretrainrl.paths import home, output_file, output_folder, resolve_path
from pretrainrl.progress import plain_console
from pretrainrl.results import CollectResult, PretrainResult, ProbeResult

if TYPE_CHECKING:
    from torch import Tensor

    from pretrainrl.encoders import Encoder
    from pretrainrl.probing import Probe, Samples


def collect(
    games: Sequence[str] | str,
    *,
    agent: str = "random",
    steps: int = 20_000,
    keep_every: int = 1,
    n_envs: int = 8,
    seed: int = 0,
    sticky_actions: float = 0.25,
    repeat_probability: float | None = None,
    ram: bool = False,
    greedy: bool = False,
    kind: str | None = None,
    version: int = 0,
    out: str | Path | None = None,
    recording: str | Path | None = None,
    save_agent: str | Path | None = None,
    trust_pickle: bool = False,
    jobs: int = 1,
    resume: bool = False,
    progress: bool = True,
) -> CollectResult:
    """Play games and write what was seen as one lossless Minari dataset for each.

    Args:
        games: Names of the games, in any spelling.
        agent: `random`; the name of an agent that learns, such as `qrdqn`, `ppo` or `ppo-ram`, all of whose learning is
            recorded; or the path of an agent saved by Stable-Baselines3.
        steps: Number of transitions that the player experiences in each game.
        keep_every: Number of episodes of which one is kept, whole.
        n_envs: Number of games played together.
        seed: Seed of the player and the games.
        sticky_actions: Chance that the game repeats the last action, in [0, 1].
        repeat_probability: Chance that the random player repeats its last action, in [0, 1); by default 0.75.
        ram: Whether to store the console's 128 bytes of memory, too, with the random player.
        greedy: Whether a saved agent takes the action that it thinks best rather than one that it draws.
        kind: Kind in the id `pretrainrl/atari/<game>-<kind>-v<version>`; by default the player's.
        version: Version in the id.
        out: Root of the datasets, by default `MINARI_DATASETS_PATH`, which is set for the time of the call.
        recording: Folder for a recording of each dataset, or for one game its file.
        save_agent: Folder where an agent that has learned a game is saved as `<game>.zip`.
        trust_pickle: Whether the pickles in a saved agent are loaded, which runs whatever their author wrote. Without them,
            agents are loaded whose policy is one of Stable-Baselines3 or of this package.
        jobs: Number of games collected at the same time, each in a process of its own.
        resume: Whether to skip the games that are there, and to take up the one that was interrupted.
        progress: Whether to show a progress bar, and a line for each dataset.

    Raises:
        PretrainRLError: A name, number, folder or saved agent does not fit, or a dataset is there already.
        InterruptedRunError: SIGINT or SIGTERM asked to stop.
    """
    from pretrainrl.games import find_game

    check_seed(seed)
    check_counts(steps=steps, keep_every=keep_every)
    check_counts(MAX_PROCESSES, n_envs=n_envs, jobs=jobs)
    agents = None if save_agent is None else output_folder(save_agent)
    names = [games] if isinstance(games, str) else games
    slugs = list(dict.fromkeys(find_game(name).slug for name in names))  # before the imports, which take seconds

    from pretrainrl.cli.datasets import root_of_datasets
    from pretrainrl.integrations.minari import dataset_id, write_recording
    from pretrainrl.integrations.minari.collecting import check_agent_for, collection_settings, default_kind
    from pretrainrl.integrations.minari.metadata import datasets_root
    from pretrainrl.integrations.minari.write import is_written

    own: dict[str, Any] = {
        "agent": agent,
        "steps": steps,
        "n_envs": n_envs,
        "seed": seed,
        "sticky_actions": sticky_actions,
        "keep_every": keep_every,
        "repeat_probability": repeat_probability,
        "ram": ram,
        "greedy": greedy,
    }
    if agent != "random":
        output_folder(home())  # where what it experiences is kept until it is finished
    settings = collection_settings(**own)
    kind = kind or default_kind(agent)
    say = partial(plain_console(quiet=not progress).print, soft_wrap=True)
    with root_of_datasets(out):
        ids = {slug: dataset_id(slug, kind, version) for slug in slugs}
        for dataset in ids.values():
            output_folder(datasets_root() / dataset)
        done = [slug for slug, name in ids.items() if is_written(name, "collection", settings, resume=resume)]
        for slug in done:
            say(f"{ids[slug]}  is there already")
        todo = [slug for slug in slugs if slug not in done]
        check_agent_for(agent, todo, trust_pickle=trust_pickle)
        files = _recording_files(None if recording is None else resolve_path(recording), ids)
        all_settings = {**own, "kind": kind, "version": version, "resume": resume, "trust_pickle": trust_pickle}
        work = partial(_collect_one, all_settings, agents)
        if todo:
            _collect_all(work, todo, jobs, steps, ids, say, progress)
        for slug, file in files.items():
            card = write_recording(ids[slug], file)
            say(f"{file}  {card.bytes:,} bytes, {card.bytes / card.transitions:.2f} a transition")
        return CollectResult(tuple(ids.values()), datasets_root(), tuple(files.values()))


def _recording_files(recording: Path | None, ids: Mapping[str, str]) -> dict[str, Path]:
    """Return the file of each game's recording, none where none is wanted; what cannot be written to is refused now."""
    if recording is None:
        return {}
    from pretrainrl.integrations.minari.recordings import SUFFIX

    if recording.suffix != SUFFIX:
        files = {slug: recording / f"{name.rsplit('/', 1)[-1]}{SUFFIX}" for slug, name in ids.items()}
    elif len(ids) == 1:
        files = dict.fromkeys(ids, recording)
    else:
        raise InputError(f"{recording} is one file, and {len(ids)} games are to be recorded; name a folder")
    return {slug: output_file(file) for slug, file in files.items()}


def _collect_all(
    work: Callable[[str, Callable[[int], None]], str],
    todo: list[str],
    jobs: int,
    steps: int,
    ids: Mapping[str, str],
    say: Callable[[str], None],
    progress: bool,
) -> None:
    """Collect the games `todo` under one bar, which names those under way."""
    from pretrainrl.runs.interrupt import InterruptedRunError
    from pretrainrl.runs.pool import show_jobs

    complete = len(ids) - len(todo)

    def finished(slug: str, result: str) -> None:
        nonlocal complete
        complete += 1
        say(result)

    try:
        show_jobs(work, todo, jobs, total=steps * len(todo), unit="transitions", finished=finished, disable=not progress)
    except InterruptedRunError as error:
        raise InterruptedRunError(
            f"interrupted; {complete} of {len(ids)} datasets are complete, and of an agent's all but the last minutes is "
            "kept; go on with the same command and --resume"
        ) from error
    except PretrainRLError as error:
        if len(ids) == 1:
            raise
        raise type(error)(f"{error} ({complete} of {len(ids)} datasets are complete; --resume goes on)") from error


def _collect_one(own: dict[str, Any], agents: Path | None, slug: str, report: Callable[[int], None]) -> str:
    """Collect one game; returns what to say of it."""
    from pretrainrl.integrations.minari import collect_dataset

    dataset = collect_dataset(slug, progress=report, save_agent=agents and agents / f"{slug}.zip", **own)
    size = dataset.storage.metadata["dataset_size"]
    return f"{dataset.id}  {dataset.total_steps:,} transitions, {len(dataset)} episodes, {size:.1f} MB"


def pretrain(
    objective: str,
    dataset: Sequence[str] | str,
    *,
    preset: str = "nano",
    backbone: str | None = None,
    steps: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    name: str | None = None,
    from_: str | Path | None = None,
    out: str | Path | None = None,
    seed: int = 0,
    device: str = "auto",
    precision: str = "auto",
    checkpoint_every: int = 500,
    resume: bool = False,
    progress: bool = True,
) -> PretrainResult:
    """Pre-train a backbone on Minari datasets.

    Args:
        objective: Name of an objective, one of `list_objectives()`.
        dataset: Ids of Minari datasets made by `pretrainrl collect` or `write_dataset`.
        preset: Name of the objective's preset: `nano` for a CPU, `paper` for a GPU.
        backbone: Name of the backbone, instead of the preset's.
        steps: Number of optimizer steps, instead of the preset's.
        batch_size: Number of windows in a step, instead of the preset's.
        lr: Peak learning rate, instead of the preset's.
        name: Name of the encoder, `objective.variant`.
        from_: Name, run folder or card file of an encoder whose weights training begins from, with a new optimizer and a
            schedule of its own. From a run of the same objective, options and games, heads and momentum copies are taken, too.
        out: Run folder, by default `runs/<name>-seed<seed>`.
        seed: Seed of initialization, batch order and augmentation.
        device: Device, `auto`, `cpu`, `cuda`, or `cuda:1` for the second one. For several processes, start under `torchrun`.
        precision: Precision, `32-true`, `bf16-mixed`, or `auto` for bfloat16 where the device computes it natively.
        checkpoint_every: Number of steps between two checkpoints.
        resume: Whether to continue the run in `out`.
        progress: Whether to show a progress bar.

    Raises:
        PretrainRLError: A name, dataset, setting or run folder does not fit.
    """
    from pretrainrl.cards import find_card
    from pretrainrl.device import resolve_device, resolve_precision
    from pretrainrl.integrations.minari import cache_datasets
    from pretrainrl.pretraining import PretrainConfig, run
    from pretrainrl.pretraining.start import Start

    check_seed(seed)
    check_counts(steps=steps, batch_size=batch_size, checkpoint_every=checkpoint_every)
    output_folder(home())  # of the frames
    if precision == "auto":
        precision = resolve_precision(precision, resolve_device(device))
    ids = (dataset,) if isinstance(dataset, str) else tuple(dataset)
    changes: dict[str, Any] = {"backbone": backbone, "steps": steps, "batch_size": batch_size, "lr": lr, "name": name}
    start = None if from_ is None else Start.read(from_)
    config = PretrainConfig.of(objective, ids, preset=preset, seed=seed, precision=precision, start=start, **changes)
    folder = output_folder(Path("runs") / f"{config.name}-seed{config.seed}" if out is None else out)
    options: dict[str, Any] = {"start": start, "device": device, "checkpoint_every": checkpoint_every, "resume": resume}
    folder = run(config, folder, lambda: cache_datasets(ids, progress=progress), progress=progress, **options)
    return PretrainResult(folder, find_card(folder))


def probe(
    name: str | Path,
    dataset: Sequence[str] | str,
    *,
    weights: str | None = None,
    baseline: str = "random",
    observations: int = 8000,
    seed: int = 0,
    device: str = "auto",
    dtype: str = "float32",
    out: str | Path | None = None,
    progress: bool = True,
) -> ProbeResult:
    """Measure what the features of an encoder tell: memory, actions, rewards, rank, dormant channels.

    Args:
        name: Name, run folder or card file of the encoder.
        dataset: Minari ids of datasets, several for several games.
        weights: Weights instead of the card's, as for `make_encoder`.
        baseline: Name of an encoder to compare with, or `none`.
        observations: Greatest number of observations of each game; one takes 28 kB of memory, and 12 bytes for each feature.
        seed: Seed of the split by episodes.
        device: Device, `auto`, `cpu`, `cuda`, or `cuda:1` for the second one.
        dtype: Dtype in which the encoders compute: `float32`, `bfloat16`, or `auto` for bfloat16 where the device computes it
            in hardware.
        out: Folder for `probe.json` and a page of figures.
        progress: Whether to show a progress bar.

    Raises:
        PretrainRLError: A name, dataset, number or folder does not fit.
        MissingExtraError: A folder is given, and the extra `plot` is not installed.
    """
    from pretrainrl.cards import find_card, find_encoder

    check_seed(seed)
    check_counts(observations=observations)
    out = None if out is None else output_folder(out)
    name = find_encoder(name)
    names: list[str | Path] = [name]  # looked up before the imports, which take seconds
    if baseline != "none" and find_card(baseline).name != find_card(name).name:
        names.append(baseline)
    if out is not None:
        from pretrainrl.optional import require

        require("jinja2", "plot")

    from pretrainrl.device import resolve_device, resolve_dtype
    from pretrainrl.encoders import make_encoder
    from pretrainrl.integrations.minari import read_samples
    from pretrainrl.runs.folder import exclusive_folder

    ids = [dataset] if isinstance(dataset, str) else list(dataset)
    options: dict[str, Any] = {"device": device, "dtype": resolve_dtype(dtype, resolve_device(device))}
    encoders = [make_encoder(each, weights=None if number else weights, **options) for number, each in enumerate(names)]
    samples = read_samples(ids, limit=observations)
    with nullcontext() if out is None else exclusive_folder(out):
        probes = _measure(encoders, samples, seed, progress)
        return ProbeResult(probes, None if out is None else _write_probes(out, name, probes, ids, seed))


def _measure(encoders: Sequence[Encoder], samples: Sequence[Samples], seed: int, progress: bool) -> tuple[Probe, ...]:
    """Probe each encoder under one progress bar."""
    from pretrainrl.probing import probe
    from pretrainrl.progress import progress_bar

    with progress_bar(disable=not progress) as bar:
        task = bar.add_task("probe", total=len(encoders) * sum(map(len, samples)), note="")
        probes = []
        for encoder in encoders:
            bar.update(task, note=encoder.name)
            probes.append(probe(encoder, samples, seed=seed, progress=lambda new: bar.advance(task, new)))
    return tuple(probes)


def _write_probes(out: Path, name: str | Path, probes: Sequence[Probe], ids: Sequence[str], seed: int) -> Path:
    """Write the numbers and the page."""
    from pretrainrl.probing.report import write_page, write_probes

    pictures, note = _reconstructions(name, ids, seed)
    write_probes(out, probes, ids)
    return write_page(out, probes, pictures, note)


def _reconstructions(run: str | Path, ids: Sequence[str], seed: int) -> tuple[Tensor | None, str]:
    """Return what a masked objective paints (n, 3, 84, 84), or None and why there is nothing."""
    from pretrainrl.integrations.minari import open_dataset
    from pretrainrl.pretraining.trained import FILE, load_objective
    from pretrainrl.probing.probes import reconstructions

    if isinstance(run, str) or not (run / FILE).is_file():  # a registered name is no folder
        return None, "Reconstructions need the run folder of a masked objective: an encoder alone has no painter."
    trained = load_objective(run)
    episodes = {dataset.game: next(iter(dataset)) for dataset in map(open_dataset, ids)}
    pictures = reconstructions(trained.objective, trained.games, list(episodes.values()), seed=seed)
    if pictures is None:
        return None, f"{trained.name} does not reconstruct, or was not trained on any of these games."
    return pictures, ""
