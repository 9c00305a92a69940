"""A frozen encoder in nine algorithms: what must hold after training, saving and loading."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from sb3_agents import ALGORITHMS, STEPS, first_bytes, frames, make_agent, naive, same, small, weights
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import Tensor

from pretrainrl import make_encoder
from pretrainrl.encoders import Encoder, cached_encoder, clear_encoder_cache, factory, make_backbone
from pretrainrl.integrations.sb3 import PretrainedExtractor


def saved_state(path: Path) -> dict[str, Tensor]:
    """The state_dict in an agent's zip."""
    with zipfile.ZipFile(path) as archive:
        return torch.load(io.BytesIO(archive.read("policy.pth")), weights_only=True)


def saved_attributes(path: Path) -> bytes:
    """What the agent's attributes were pickled to."""
    with zipfile.ZipFile(path) as archive:
        data = json.loads(archive.read("data"))
    return b"".join(base64.b64decode(item[":serialized:"]) for item in data.values() if ":serialized:" in str(item))


class Trained(NamedTuple):
    """An agent after training, and what was observed meanwhile."""

    agent: BaseAlgorithm
    path: Path
    constructions: int
    before: dict[str, Tensor]


@pytest.fixture(scope="module", params=ALGORITHMS)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trained]:
    made = []

    def counting_make_encoder(*args: Any, **kwargs: Any) -> Encoder:
        made.append(args)
        return make_encoder(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(factory, "make_encoder", counting_make_encoder)
        clear_encoder_cache()
        before = weights(make_encoder("random.nature"))
        agent = make_agent(request.param, small()).learn(STEPS)
        path = tmp_path_factory.mktemp("agent") / "agent.zip"
        agent.save(path)
        yield Trained(agent, path, len(made), before)


def test_weights_are_bit_identical_after_training(trained: Trained) -> None:
    assert trained.agent._n_updates > 0
    assert same(weights(cached_encoder("random.nature")), trained.before)


def test_one_encoder_however_many_networks(trained: Trained) -> None:
    extractors = [module for module in trained.agent.policy.modules() if isinstance(module, PretrainedExtractor)]
    assert trained.constructions == 1
    assert len({id(extractor.encoder_on("cpu")) for extractor in extractors}) == 1


def test_no_encoder_tensor_in_the_state_or_the_zip(trained: Trained) -> None:
    shapes = {tensor.shape for tensor in trained.before.values() if tensor.ndim == 4}
    state = saved_state(trained.path)
    assert state.keys() == trained.agent.policy.state_dict().keys()
    assert not shapes & {tensor.shape for tensor in state.values()}
    assert first_bytes(cached_encoder("random.nature")) not in saved_attributes(trained.path)


def test_no_encoder_parameter_in_an_optimizer(trained: Trained) -> None:
    policy = trained.agent.policy
    owners = [policy, *(getattr(policy, name, None) for name in ("actor", "critic"))]
    optimizers = [owner.optimizer for owner in owners if getattr(owner, "optimizer", None)]
    optimised = {id(p) for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]}
    assert optimised and not optimised & {id(p) for p in cached_encoder("random.nature").parameters()}


def test_necks_are_trained(trained: Trained) -> None:
    fresh = make_agent(type(trained.agent).__name__, small()).policy.state_dict()
    moved = [key for key, tensor in trained.agent.policy.state_dict().items() if not torch.equal(tensor, fresh[key])]
    assert [key for key in moved if "features_extractor.neck" in key and "target" not in key]


def test_save_load_predict_are_identical_and_training_goes_on(trained: Trained) -> None:
    loaded = type(trained.agent).load(trained.path, device="cpu")
    assert same(weights(loaded.policy), weights(trained.agent.policy))
    actions, _ = trained.agent.predict(frames(), deterministic=True)
    assert np.array_equal(loaded.predict(frames(), deterministic=True)[0], actions)
    env = trained.agent.get_env()
    assert env
    loaded.set_env(env)
    loaded.learn(STEPS)
    assert same(weights(cached_encoder("random.nature")), trained.before)


@pytest.mark.parametrize(("algorithm", "copies"), [("DQN", 2), ("SAC", 3), ("TD3", 4)])
def test_the_obvious_design_holds_and_saves_many_copies(algorithm: str, copies: int, tmp_path: Path) -> None:
    make_agent(algorithm, naive()).save(tmp_path / "agent.zip")
    assert len([key for key in saved_state(tmp_path / "agent.zip") if key.endswith("backbone.layers.0.weight")]) == copies

    backbone = make_backbone("nature")
    make_agent(algorithm, naive(backbone=backbone)).save(tmp_path / "agent.zip")
    assert first_bytes(backbone) in saved_attributes(tmp_path / "agent.zip"), (
        "an instance among the arguments is pickled again"
    )


def test_in_the_obvious_design_freezing_changes_the_optimizer() -> None:
    agent = make_agent("DQN", naive())
    optimised = {id(p) for group in agent.policy.optimizer.param_groups for p in group["params"]}
    assert {id(p) for p in agent.policy.q_net.features_extractor.backbone.parameters()} < optimised
