"""How a cell is computed: an agent learns on the encoder, a probe reads its features, or its objective plays."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

from pretrainrl.benchmarking.cells import CellSpec
from pretrainrl.benchmarking.results import CellResult
from pretrainrl.errors import InputError, PretrainRLError

_SHOWN_TOGETHER = 8  # games played at the same time


def run_cell(spec: CellSpec) -> CellResult:
    """Compute a cell in this process; an error becomes a failed result.

    Raises:
        InterruptedRunError: SIGINT or SIGTERM asked to stop; the run goes on from its last checkpoint.
    """
    from pretrainrl.finetuning.settings import package_versions
    from pretrainrl.runs.interrupt import InterruptedRunError

    began = time.monotonic()
    try:
        found = {"finetune": _fine_tune, "probe": _probe, "zero_shot": _play}[spec.what.kind](spec)
    except InterruptedRunError:
        raise
    except PretrainRLError as error:
        return spec.failed(str(error), time.monotonic() - began)
    return spec.result(status="done", seconds=time.monotonic() - began, versions=package_versions(), **found)


def _fine_tune(spec: CellSpec) -> dict[str, Any]:
    from pretrainrl.finetuning import finetune
    from pretrainrl.finetuning.folder import CHECKPOINTS

    what, how = spec.what, spec.how
    assert what.agent is not None
    length = {"steps": what.length} if spec.dataset is None else {"epochs": what.length, "dataset": spec.dataset}
    found = finetune(
        what.agent,
        spec.game,
        spec.entrant.encoder,
        preset=what.preset,
        features=what.features if spec.entrant.frozen else None,
        neck=what.neck,
        end_to_end=not spec.entrant.frozen,
        n_envs=what.n_envs,
        seed=spec.seed,
        eval_episodes=how.episodes,
        eval_epsilon=how.epsilon,
        max_episode_steps=how.max_episode_steps,
        sticky_actions=how.sticky_actions,
        out=Path(spec.runs) / spec.cell.key,
        dtype=spec.dtype,
        resume=True,
        progress=False,
        **length,
    )
    if not found.evaluations:
        raise InputError(f"{spec.title} was never evaluated")
    shutil.rmtree(found.folder / CHECKPOINTS, ignore_errors=True)  # cells are many, and none is extended
    last = found.evaluations[-1]
    curve = tuple((one.timestep, one.mean) for one in found.evaluations)
    return {"scores": last.scores, "lengths": last.lengths, "curve": curve}


def _probe(spec: CellSpec) -> dict[str, Any]:
    from pretrainrl.device import resolve_dtype
    from pretrainrl.encoders import make_encoder
    from pretrainrl.integrations.minari import read_samples
    from pretrainrl.probing import probe

    assert spec.dataset is not None and spec.what.length is not None
    encoder = make_encoder(spec.entrant.encoder, dtype=resolve_dtype(spec.dtype, "cpu"))
    metrics = probe(encoder, read_samples([spec.dataset], limit=spec.what.length), seed=spec.seed).metrics
    if spec.what.metric not in metrics:
        raise InputError(f"{spec.dataset} gives no {spec.what.metric}; it gives {', '.join(sorted(metrics))}")
    return {"scores": (metrics[spec.what.metric],)}


def _play(spec: CellSpec) -> dict[str, Any]:
    """Let the objective play. Of several returns to ask for, the best counts, in games that did not choose it."""
    from pretrainrl.integrations.sb3 import AtariVecEnv
    from pretrainrl.integrations.sb3.zero_shot import DecisionTransformerPolicy, VecRewardObservation, ZeroShotPolicy

    how = spec.how
    env = AtariVecEnv(
        spec.game,
        min(how.episodes, _SHOWN_TOGETHER),
        terminal_on_life_loss=False,
        action_repeat_probability=how.sticky_actions,
        max_episode_steps=how.max_episode_steps,
    )
    shown = VecRewardObservation(env)
    try:
        policy = ZeroShotPolicy.load(spec.entrant.encoder, spec.game, env.action_space)
        if not isinstance(policy, DecisionTransformerPolicy):
            return _games(spec, policy, env, 0)
        best, curve = policy.target_return, []
        for number, share in enumerate(spec.what.returns):
            policy.target_return = share * best
            scores = _games(spec, policy, shown, 1 + number)["scores"]
            curve.append((policy.target_return, sum(scores) / len(scores)))
        policy.target_return = max(curve, key=lambda point: point[1])[0]
        return {**_games(spec, policy, shown, 0), "curve": tuple(curve)}
    finally:
        shown.close()


def _games(spec: CellSpec, policy: Any, env: Any, number: int) -> dict[str, Any]:
    """Play whole games, with a seed that the cell's seed and a number decide."""
    import numpy as np

    from pretrainrl.finetuning.evaluation import evaluate

    seed = int(np.random.SeedSequence([spec.seed, number]).generate_state(1)[0]) % 2**31
    epsilon = 0.001 if spec.how.epsilon is None else spec.how.epsilon
    scores, lengths = evaluate(policy, env, spec.how.episodes, seed, lambda: None, epsilon)
    return {"scores": tuple(scores), "lengths": tuple(lengths)}
