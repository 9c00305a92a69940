"""What `finetune` returns is what its files hold, and says in which type the encoder computed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pretrainrl
from pretrainrl.errors import InputError, UnknownNameError
from pretrainrl.finetuning.config import FinetuneRecord
from pretrainrl.results import FinetuneResult


def finetune(out: Path, **changes: Any) -> FinetuneResult:
    sizes: dict[str, Any] = {"steps": 48, "n_envs": 2, "eval_freq": 24, "eval_episodes": 2, "max_episode_steps": 15}
    arguments: dict[str, Any] = {**sizes, "features": "pooled", "out": out, "progress": False, **changes}
    return pretrainrl.finetune("qrdqn", "pong", "random.nature", **arguments)


@pytest.mark.slow
def test_a_result_is_what_the_files_hold(tmp_path: Path) -> None:
    result = finetune(tmp_path)
    with np.load(result.folder / "evaluations.npz") as saved:
        assert [each.timestep for each in result.evaluations] == saved["timesteps"].tolist() == [24, 48]
        assert [list(each.scores) for each in result.evaluations] == saved["results"].tolist()
        assert [list(each.lengths) for each in result.evaluations] == saved["ep_lengths"].tolist()
    assert result.scores == result.evaluations[-1].scores and result.best.mean >= result.evaluations[-1].mean
    assert result.agent_path.is_file() and result.best_agent_path.is_file() and result.seconds > 0
    again = finetune(tmp_path, resume=True)
    assert (again.evaluations, again.agent_path, again.seconds) == (result.evaluations, result.agent_path, 0)


@pytest.mark.slow
def test_the_type_of_computation_is_recorded_and_kept(tmp_path: Path) -> None:
    plain, fast = finetune(tmp_path / "plain"), finetune(tmp_path / "fast", dtype="bfloat16")
    assert (plain.dtype, fast.dtype) == ("float32", "bfloat16")
    assert FinetuneRecord.read(fast.folder / "config.toml").encoder_dtype == "bfloat16"
    with pytest.raises(InputError, match="encoder_dtype was bfloat16 and is now float32"):
        finetune(tmp_path / "fast", resume=True)


@pytest.mark.slow
def test_another_preset_has_other_settings(tmp_path: Path) -> None:
    result = finetune(tmp_path / "out", preset="minutes")
    record = FinetuneRecord.read(result.folder / "config.toml")
    assert record.run.preset == "minutes" and record.settings["n_steps"] == 5 and record.settings["gradient_steps"] == 1
    with pytest.raises(UnknownNameError, match="unknown preset of qrdqn 'minute'; did you mean 'minutes'"):
        finetune(tmp_path / "none", preset="minute")
    assert not (tmp_path / "none").exists()
