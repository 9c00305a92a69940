"""Another package's backbone, objective and agent go the whole way: pre-trained, then fine-tuned, by name alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pretrainrl.agent_cards import AGENTS, AgentCard, find_agent_card
from pretrainrl.errors import CardError, InputError, UnknownNameError
from pretrainrl.integrations.sb3.agents import algorithm_of
from pretrainrl.registry import Registry

# An installed package: its module, and what it tells of itself. The backbone is registered by a call.
MODULE = '''
import torch
from torch import nn
from stable_baselines3 import A2C

from pretrainrl.agent_cards import AgentCard, AgentPreset
from pretrainrl.cards import BACKBONES, BackboneCard, ObjectiveCard, Paper, Preset, TrainingPreset
from pretrainrl.data.windows import WindowSpec
from pretrainrl.objectives.objective import Objective

PAPER = Paper(title="None", url="https://example.org")


class Pooling(nn.Module):
    feature_map_shape = (8, 6, 6)

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(4, 8, 14, stride=14)

    def forward(self, frames):
        return self.layer(frames).relu()


class Brightness(Objective):
    window = WindowSpec()

    def __init__(self, backbone, num_games, *, augmentation=False):
        super().__init__(backbone, num_games, augmentation=augmentation)
        self.head = nn.Linear(8 * 6 * 6, 1)

    def loss(self, batch):
        frames = self.view(batch.observation(0))
        error = self.head(self.backbone(frames).flatten(1))[:, 0] - frames.mean((1, 2, 3))
        return error.square().mean(), {"error": error.detach().abs().mean()}


class Learner(A2C):
    """An algorithm that nobody here knows."""


def register():
    BACKBONES.register("pooling", BackboneCard(name="pooling", target="someones:Pooling", summary="small", paper=PAPER))


def objective():
    training = TrainingPreset(batch_size=4, steps=1, lr=1e-3)
    preset = Preset(backbone="pooling", training=training)
    return ObjectiveCard(
        name="brightness", target="someones:Brightness", data="image", summary="small", paper=PAPER, presets={"nano": preset}
    )


def agent():
    preset = AgentPreset(steps=300, settings={"n_steps": 16, "learning_rate": {"shape": "linear", "peak": 1e-3}})
    return AgentCard(
        name="learner", title="A learner", summary="small", algorithm="someones:Learner", evaluation="drawn",
        uses={"finetune": "tiny", "collect": "tiny"}, presets={"tiny": preset},
    )
'''
ENTRY_POINTS = "[pretrainrl.objectives]\nbrightness = someones:objective\n[pretrainrl.agents]\nlearner = someones:agent\n"
SCRIPT = """
import json, sys
import pretrainrl
from pretrainrl.agent_cards import agent_names

assert "learner" in agent_names("finetune")
import someones
someones.register()
collected = pretrainrl.collect("pong", agent="learner", steps=1280, n_envs=1, progress=False)
trained = pretrainrl.pretrain("brightness", collected.datasets, progress=False, out="encoder")
tuned = pretrainrl.finetune(
    "learner", "pong", trained.folder, n_envs=2, eval_freq=200, eval_episodes=2, max_episode_steps=20, progress=False
)
from stable_baselines3 import A2C
assert A2C.load(tuned.agent_path).num_timesteps == 320
print(json.dumps([collected.datasets, trained.card.name, trained.card.backbone, len(tuned.scores), tuned.dtype]))
print(json.dumps([each.timestep for each in tuned.evaluations]))
"""


def install(folder: Path) -> None:
    (folder / "someones.py").write_text(MODULE)
    facts = folder / "someones-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: someones\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text(ENTRY_POINTS)


@pytest.mark.slow
def test_the_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    monkeypatch.setenv("PRETRAINRL_HOME", str(tmp_path / "home"))
    script = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{SCRIPT}"
    result = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    what, timesteps = map(json.loads, result.stdout.splitlines()[-2:])
    assert what == [["pretrainrl/atari/pong-learner-v0"], "brightness.pooling", "pooling", 2, "float32"]
    assert timesteps == [224, 320]


def test_an_agents_entry_point_is_listed_without_being_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    registry = Registry("agent", AgentCard.read, group="pretrainrl.agents")
    assert "learner" in registry.names() and "someones" not in sys.modules


@pytest.mark.parametrize("name", AGENTS.names())
def test_shipped_agents(name: str) -> None:
    """Each card says what is true of its algorithm."""
    card = AGENTS.get(name)
    algorithm = algorithm_of(card)
    assert card.name == name and card.paper is not None
    assert ("augment" in algorithm.__init__.__code__.co_varnames) == card.augments
    for preset in card.presets.values():
        settings = preset.scaled(50_000, 8).flat()
        assert settings and all(not isinstance(value, dict) or "per_env" not in value for value in settings.values())


def test_listing_agents_is_light() -> None:
    script = "import sys; from pretrainrl.agent_cards import AGENTS; AGENTS.items(); print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "stable_baselines3", "gymnasium"} & set(modules)


def test_numbers_follow_from_a_runs_size() -> None:
    preset = AGENTS.get("qrdqn").preset("short")
    large, small = preset.scaled(400_000, 16).settings, preset.scaled(1_000, 2).settings
    assert (large["learning_starts"], large["buffer_size"], large["gradient_steps"]) == (10_000, 50_000, 4)
    assert (small["learning_starts"], small["buffer_size"], small["gradient_steps"]) == (50, 1_000, 1)
    assert AGENTS.get("rainbow").preset("atari_pb").scaled(100_000, 1).settings["exploration_fraction"] == 0.1


TABLE: dict[str, Any] = {
    "name": "a",
    "title": "A",
    "summary": "s",
    "algorithm": "json:loads",
    "uses": {},
    "presets": {"p": {"steps": 1}},
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"algoritm": "x"}, "did you mean 'algorithm'"),
        ({"uses": {"finetune": "q"}}, "uses names presets that the card lacks: q"),
        ({"uses": {"benchmrk": "p"}}, "benchmrk"),
        ({"presets": {"p": {"steps": 1, "epochs": 1}}}, "give either steps or epochs"),
        ({"presets": {"p": {"steps": 1, "settings": {"x": {"share": 0.1, "per_env": 2}}}}}, "give one of per_env, share and"),
    ],
)
def test_wrong_cards_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(CardError, match=message):
        AgentCard.parse({**TABLE, **change}, "some card")


def test_wrong_names_and_targets_are_named() -> None:
    with pytest.raises(UnknownNameError, match="unknown preset of rainbow 'atari-pb'; did you mean 'atari_pb'"):
        AGENTS.get("rainbow").preset("atari-pb")
    with pytest.raises(UnknownNameError, match="unknown agent 'ppo-rm'; did you mean 'ppo-ram'"):
        find_agent_card("ppo-rm", "collect")
    with pytest.raises(InputError, match="algorithm of agent 'a': target 'json:loads' is no class derived from BaseAlgorithm"):
        algorithm_of(AgentCard.parse(TABLE, "some card"))
