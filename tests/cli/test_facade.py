"""Each facade function has its command's arguments, names and defaults."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

import pretrainrl
from pretrainrl.cli.benchmark import benchmark, plan, status
from pretrainrl.cli.collect import collect
from pretrainrl.cli.finetune import finetune
from pretrainrl.cli.pretrain import pretrain
from pretrainrl.cli.probe import probe
from pretrainrl.cli.report import leaderboard, report
from pretrainrl.integrations.minari import dataset_id
from pretrainrl.results import CollectResult, PretrainResult, ProbeResult

COMMANDS: dict[str, Any] = {
    "benchmark": benchmark,
    "benchmark_status": status,
    "collect": collect,
    "finetune": finetune,
    "leaderboard": leaderboard,
    "plan_benchmark": plan,
    "pretrain": pretrain,
    "probe": probe,
    "report": report,
}
REQUIRED = inspect.Parameter.empty


def arguments(function: Any) -> dict[str, Any]:
    """Defaults by name, in order; commands always show progress, so they have no argument for it."""
    parameters = inspect.signature(function).parameters.values()
    assert all(each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL) for each in parameters)
    return {each.name: each.default for each in parameters if each.name != "progress"}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_function_has_its_commands_arguments(name: str) -> None:
    function, command = arguments(getattr(pretrainrl, name)), arguments(COMMANDS[name])
    assert list(function.items()) == list(command.items())


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_gives_its_function_all_arguments(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}

    class Called(Exception):
        pass

    def called(*positional: Any, **named: Any) -> None:
        names = list(arguments(COMMANDS[name]))
        given.update(zip(names, positional, strict=False), **named)
        raise Called

    monkeypatch.setattr(pretrainrl, name, called, raising=False)
    required: dict[str, Any] = {key: [key] for key, default in arguments(COMMANDS[name]).items() if default is REQUIRED}
    required |= {"game": "pong", "encoder": "random"} if name == "finetune" else {}
    required |= {"suite": "atari-mini"} if "suite" in required else {}
    required |= {"folder": Path("results")} if "folder" in required else {}
    with pytest.raises(Called):
        COMMANDS[name](**required)
    assert list(given) == list(arguments(COMMANDS[name]))


def test_results_are_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    name = dataset_id("breakout")
    collected = pretrainrl.collect("breakout", steps=300, n_envs=2, progress=False)
    assert collected == CollectResult((name,), tmp_path)
    trained = pretrainrl.pretrain("idm", name, steps=1, batch_size=2, backbone="nature", out=tmp_path / "run", progress=False)
    assert isinstance(trained, PretrainResult) and trained.card.name == "idm.nature" and "loss" in trained.metrics
    probed = pretrainrl.probe(trained.folder, name, observations=60, baseline="none", progress=False)
    assert isinstance(probed, ProbeResult) and probed.page is None and probed.metrics["rankme"] > 0
    assert [each.encoder for each in probed.probes] == ["idm.nature"]
    assert capsys.readouterr().out == ""
