"""The pages of the objectives that ship with the package agree with the code: pictures, tables and mentions."""

import csv
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from pretrainrl.cards import OBJECTIVES
from pretrainrl.data.windows import Batch
from pretrainrl.objectives import make_objective
from pretrainrl.paths import registry_folder
from pretrainrl.registry import import_target

DOCS = Path(__file__).resolve().parents[2] / "docs"
NAMES = sorted(path.stem for path in (registry_folder() / "objectives").glob("*.toml"))
PIXELS = re.compile(r"base64,[^\"]*")


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"docs_figures_{name}", DOCS / "figures" / f"{name}.py")
    assert spec
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def scripts() -> tuple[ModuleType, ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(DOCS / "figures"))  # scripts import their neighbors
        return load("tables"), load("windows")


def page(name: str) -> str:
    """The page of an objective; the objectives of one module share a page."""
    module = OBJECTIVES.get(name).target.partition(":")[0].rpartition(".")[2]
    return (DOCS / "objectives" / f"{module}.md").read_text(encoding="utf-8")


def test_tables_are_up_to_date(scripts):
    tables, _ = scripts
    there = {path.name: path.read_text(encoding="utf-8") for path in tables.OUT.iterdir()}
    assert there == tables.all_tables(), "run `make figures`"


def test_pictures_are_up_to_date(scripts):
    """But for the pixels, which another version of the emulator may change."""
    _, windows = scripts
    episode, t = windows.scene()
    for name in NAMES:
        drawn = windows.draw(name, episode, t)
        kept = (windows.OUT / f"{name}.svg").read_text(encoding="utf-8")
        assert PIXELS.sub("", kept) == PIXELS.sub("", drawn), f"{name}: run `make figures`"


@pytest.mark.parametrize("name", NAMES)
def test_picture_shows_what_is_read(name, scripts, monkeypatch):
    _, windows = scripts
    found = windows.reading(name)
    objective = make_objective(name, encoder="nature", num_games=1, preset="nano")
    torch.manual_seed(0)
    batch = sys.modules[windows.reading.__module__].window_batch(objective.window, size=16)  # enough for siammae's gaps
    offsets, attributes = set(), set()
    observation, get = Batch.observation, Batch.__getattribute__

    def record_offset(self, offset=0):
        offsets.update(offset.tolist() if isinstance(offset, torch.Tensor) else [offset])
        return observation(self, offset)

    def record_name(self, attribute):
        attributes.add(attribute)
        return get(self, attribute)

    monkeypatch.setattr(Batch, "observation", record_offset)
    monkeypatch.setattr(Batch, "__getattribute__", record_name)
    objective.loss(batch)
    monkeypatch.undo()

    shown = {bar.offset for bar in found.observations}
    assert max(shown) == objective.window.future
    assert shown == (offsets or set(range(objective.window.future + 1)))  # dt cuts its stacks from the frames
    steps = {read.name for read in found.steps}
    if name.startswith("cql"):
        steps = steps - {"rewards"} | {"returns"}  # drawn as the rewards that the return adds up
    if name not in ("spr", "spr_idm"):  # those copy the batch, which reads all of it
        assert steps == attributes & {"actions", "rewards", "returns", "terminations"}
    assert bool(steps) == bool(objective.window.steps)
    bars = [bar for bar in found.observations if bar.role == "copy"]
    assert bool(bars) == hasattr(objective, "target_backbone")


@pytest.mark.parametrize("name", NAMES)
def test_page_is_about_its_objective(name):
    card, text = OBJECTIVES.get(name), page(name)
    formulas = re.search(r"## Loss\n\n```text\n(.*?)```", text, re.S).group(1).split("\n")
    doc = " ".join(import_target(card.target).__doc__.split())
    if not name.startswith("cql"):
        assert [line for line in formulas if " ".join(line.split()) not in doc] == []
    for part in (card.paper.url, f"pretrainrl pretrain {name} ", f"[{card.target.replace(':', '.')}]"):
        assert part in text, part
    table = (DOCS / "objectives" / "tables" / f"{name}.md").read_text(encoding="utf-8")
    for section in re.findall(r"\[start:(\w+)\]", table):
        assert f"tables/{name}.md:{section}" in text


def test_scores_are_of_objectives_that_ship(scripts):
    tables, _ = scripts
    assert set(tables.atari_pb()) <= {f"`{name}`" for name in NAMES} | set(tables.BASELINES.values())
    with (registry_folder() / "atari_pb.csv").open(encoding="utf-8") as file:
        assert all(float(row["ci_lo"] or "-inf") <= float(row["iqm"]) <= float(row["ci_hi"]) for row in csv.DictReader(file))
