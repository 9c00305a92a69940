"""Rainbow's page shows the scores that are kept, and they can be made again."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
RUN = ROOT / "speed" / "learning" / "run.py"


@pytest.fixture(scope="module")
def figures() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_figures_learning", ROOT / "docs" / "figures" / "learning.py")
    assert spec
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_tables_are_up_to_date(figures):
    for name, text in figures.all_tables().items():
        assert (figures.OUT / name).read_text(encoding="utf-8") == text, "run `make figures`"


def test_pictures_can_be_drawn(figures, tmp_path, monkeypatch):
    for path in figures.OUT.glob("*.csv"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(figures, "OUT", tmp_path)
    figures.draw_curves()
    figures.draw_ablation()
    drawn = {path.name for path in tmp_path.glob("*.png")}
    assert drawn == {path.name for path in (ROOT / "docs" / "learning").glob("*.png")}


def test_interval_is_of_all_resamples(figures):
    low, high = figures.interval(np.array([[0.0, 5.0], [3.0, 5.0], [9.0, 5.0]]))
    assert (low[1], high[1]) == (5, 5)
    assert 0 < low[0] < 1.1 and 6.9 < high[0] < 9, "of 27 means, the outermost are cut a little"


def test_every_score_is_of_an_experiment(figures):
    """Agents, seeds and steps in docs/learning are those of speed/learning."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from experiments import EXPERIMENTS\n"
        "for name, task in EXPERIMENTS.items(): print(name, task.steps, task.evaluate_every, *task.agents)"
    )
    listed = subprocess.run([sys.executable, "-c", code, str(RUN.parent)], capture_output=True, text=True, check=True).stdout
    for name, steps, every, *agents in map(str.split, listed.splitlines()):
        scores = figures.read(name)
        assert set(scores) == set(agents)
        for at, values in scores.values():
            assert at.tolist() == list(range(int(every), int(steps) + 1, int(every)))
            assert values.shape == (3, len(at)) and np.isfinite(values).all()


def test_a_run_is_made_once(tmp_path):
    command = [sys.executable, str(RUN), "cartpole", "--one", "dqn", "0", "--steps", "2560", "--out", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True)
    with np.load(tmp_path / "cartpole" / "dqn" / "0" / "evaluations.npz") as kept:
        assert kept["timesteps"].tolist() == [2560] and kept["results"].shape == (1, 10)


@pytest.mark.heavy
def test_rainbow_learns_a_game(tmp_path):
    """The stated score, and more with this seed: four times random play's 533 within 20,000 steps, minutes of one core."""
    subprocess.run([sys.executable, str(RUN), "upndown", "--one", "rainbow", "0", "--out", str(tmp_path)], check=True)
    with np.load(tmp_path / "upndown" / "rainbow" / "0" / "evaluations.npz") as kept:
        assert kept["results"][-1].mean() > 4 * 533
