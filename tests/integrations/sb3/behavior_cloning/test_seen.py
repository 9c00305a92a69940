"""A clone sees in its environment what it learned from, or is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clones import stacks
from stable_baselines3.common.vec_env import VecEnvWrapper, VecFrameStack, VecMonitor, VecNormalize

from pretrainrl.errors import InputError
from pretrainrl.integrations.minari import collect_dataset
from pretrainrl.integrations.sb3 import AtariVecEnv, BehaviorCloning, Rainbow, VecEncodeObservation, neck_policy_kwargs

BOXING = "pretrainrl/atari/boxing-random-v0"
ENCODER = "random.nature"


@pytest.fixture(scope="module", autouse=True)
def _dataset(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(tmp_path_factory.mktemp("datasets")))
        patch.setenv("PRETRAINRL_HOME", str(tmp_path_factory.mktemp("home")))
        collect_dataset("boxing", 64, n_envs=1)
        yield


def encoded(**arguments: Any) -> VecEncodeObservation:
    return VecEncodeObservation(AtariVecEnv("boxing", 1, seed=0), ENCODER, device="cpu", **arguments)


def clone(env: Any, **arguments: Any) -> BehaviorCloning:
    kwargs = neck_policy_kwargs(features_dim=64)
    return BehaviorCloning("MlpPolicy", env, batch_size=32, policy_kwargs=kwargs, seed=0, device="cpu", **arguments)


class Shifted(VecEnvWrapper):
    """Features that are not the encoder's, in the space of those that are."""

    def reset(self) -> Any:
        return np.asarray(self.venv.reset()) + 1

    def step_wait(self) -> Any:
        observations, *others = self.venv.step_wait()
        return np.asarray(observations) + 1, *others


def test_a_clone_knows_its_own_demonstrations_by_heart() -> None:
    env = VecMonitor(VecNormalize(encoded(), norm_obs=False))
    model = clone(env, n_epochs=150, learning_rate=5e-3, max_grad_norm=None).learn(BOXING)
    observations, actions = stacks(BOXING)
    shown = encoded().encode(observations)
    assert (model.predict(shown, deterministic=True)[0] == actions).mean() == 1


def test_normalized_observations_are_refused_at_construction() -> None:
    for env in (VecNormalize(encoded()), VecMonitor(VecNormalize(VecMonitor(encoded()), training=False))):
        with pytest.raises(InputError, match="cannot learn in VecNormalize"):
            clone(env)


def test_normalizing_that_begins_later_is_refused(tmp_path: Path) -> None:
    model = clone(encoded(), n_epochs=1)
    with pytest.raises(InputError, match="cannot learn in VecNormalize"):
        model.set_env(VecNormalize(encoded()))
    assert isinstance(model.get_env(), VecEncodeObservation), "it keeps the one that it had"
    model = clone(VecNormalize(encoded(), norm_obs=False), n_epochs=1)
    model.save(tmp_path / "clone")
    with pytest.raises(InputError, match="cannot learn in VecNormalize"):
        BehaviorCloning.load(tmp_path / "clone", env=VecNormalize(encoded()), device="cpu")


def test_unknown_wrappers_are_refused_at_construction() -> None:
    for env in (Shifted(encoded()), VecMonitor(Shifted(encoded())), VecFrameStack(encoded(), 2)):
        with pytest.raises(InputError, match="is not known here"):
            clone(env)
    with pytest.raises(InputError, match="without views"):
        clone(encoded(views=2))
    with pytest.raises(InputError, match="augment=True needs frames"):
        clone(encoded(), augment=True)


def test_a_normalizing_agent_does_not_begin_with_a_clone() -> None:
    env = VecNormalize(encoded())
    kwargs = neck_policy_kwargs(features_dim=64)
    agent = Rainbow("MlpPolicy", env, buffer_size=100, policy_kwargs=kwargs, device="cpu")
    with pytest.raises(InputError, match="VecNormalize changes the observations"):
        clone(encoded()).initialize(agent)
