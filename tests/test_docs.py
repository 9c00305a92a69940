"""What the documentation shows works: its Python and its command lines are run, in the order of the page, at toy size."""

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer
from dqn_shards import log_of, numbered, write_shard
from fake_hub import FakeHub

from pretrainrl import cli
from pretrainrl.dataset_cards import RECORDINGS
from pretrainrl.integrations.minari import collect_dataset, dataset_id

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "registry" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w+)\n(?P<code>.*?)^ *```$", re.M | re.S)
DATASET = re.compile(r"pretrainrl/atari/([a-z0-9]+)-(random|mixed|expert)-v0")

# From the sizes of a real run to those of a test.
TOY_PYTHON = {
    r'"atari-smoke"': f'"{(ROOT / "tests" / "support" / "toy_suite.toml").as_posix()}"',
    r"\.learn\([\d_]+": ".learn(64",
    r"\bn(um)?_envs=\d+": r"n\1_envs=2",
    r"\bsteps=\d+": "steps=2",
    r"\bbuffer_size=[\d_]+": "buffer_size=256",
    r"\bn_eval_episodes=\d+": "n_eval_episodes=2",
    r"\beval_episodes=\d+": "eval_episodes=1, steps=32",
    r"\bmax_episode_steps=\d+": "max_episode_steps=16",
    r"\bn_epochs=\d+": "n_epochs=2",
    r"\*\*BehaviorCloning\.atari_pb\(\)\)": '**{**BehaviorCloning.atari_pb(), "n_epochs": 1})',
}
TOY_OPTIONS = {
    "collect": ["--steps", "128", "--n-envs", "2"],
    "pretrain": ["--steps", "2"],
    "finetune": ["--n-envs", "2", "--eval-episodes", "1"],
    "finetune rainbow": ["--steps", "32"],
    "finetune bc": ["--epochs", "1"],
}
# Too long; needs the user's own files or account.
NOT_HERE = (
    "demo",
    "benchmark",
    "report",
    "leaderboard",
    "import",
    "datasets build",
    "datasets upload",
    "datasets download",
    "collect pong --steps 20000 --recording",
)


class Block(NamedTuple):
    """A fenced code block."""

    language: str
    code: str

    @property
    def command_lines(self) -> list[str]:
        """The lines of a shell block that call `pretrainrl`."""
        lines = self.code.replace("\\\n", " ").splitlines() if self.language == "bash" else []
        return [line for line in lines if line.startswith("pretrainrl ")]


def blocks(page: Path) -> Iterator[Block]:
    """The blocks of a page; those that include a part of an example are left to its own test."""
    for match in FENCE.finditer(page.read_text(encoding="utf-8")):
        lines = match["code"].splitlines()
        if lines and lines[0].lstrip().startswith("--8<--"):
            continue
        yield Block(match["language"], "\n".join(line[len(match["indent"]) :] for line in lines) + "\n")


def label(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def run_python(code: str, where: str, namespace: dict[str, Any]) -> None:
    for size, toy in TOY_PYTHON.items():
        code = re.sub(size, toy, code)
    exec(compile(code, where, "exec"), namespace)


def run_command_line(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    words = shlex.split(line, comments=True)
    toy = [option for count in (2, 3) for option in TOY_OPTIONS.get(" ".join(words[1:count]), [])]
    monkeypatch.setattr("sys.argv", [*words, *toy])
    try:
        cli.main()
    except SystemExit as end:
        assert not end.code, line


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if any(b.language == "python" for b in blocks(page))], ids=label)
def test_page_works(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    FakeHub.install(tmp_path, monkeypatch)
    for file in ("siammae.pth", "spr.pth", "spr.npz"):  # Atari-PB's, which the reader has
        shutil.copy(ROOT / "tests" / "parity" / "data" / file, tmp_path)
    write_shard(tmp_path / "dqn", log_of(numbered([10, 6])))
    text = page.read_text(encoding="utf-8")
    collected = " ".join(line for block in blocks(page) for line in block.command_lines if " collect " in line)
    for game, kind in sorted(set(DATASET.findall(text))):  # those that the reader has from another page, or a recording gives
        if kind != "random" or game not in collected.replace("_", ""):
            collect_dataset(game, steps=128, n_envs=2, kind=kind)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for number, block in enumerate(blocks(page), 1):
        if block.language == "python":
            run_python(block.code, f"{label(page)}, block {number}", namespace)
        for line in block.command_lines:
            if not line.removeprefix("pretrainrl ").startswith(NOT_HERE):
                run_command_line(line, monkeypatch)


def mentioned_command_lines() -> list[tuple[str, str]]:
    """Every `pretrainrl ...` in a shell block or in running text."""
    found = []
    for page in PAGES:
        found += [(label(page), line) for block in blocks(page) for line in block.command_lines]
        found += [(label(page), line) for line in re.findall(r"(?<!`)`(pretrainrl [a-z][^`\n]*)`", page.read_text())]
    return found


@pytest.mark.parametrize(("page", "line"), mentioned_command_lines())
def test_command_line_parses(page: str, line: str) -> None:
    commands = vars(typer.main.get_command(cli.app))["commands"]
    _, name, *arguments = shlex.split(line, comments=True)
    assert name in commands, f"{page}: no command {name}"
    if arguments:  # running text may name the command alone
        commands[name].make_context(name, [argument.strip("[]<>") for argument in arguments])


def test_every_command_and_option_is_documented() -> None:
    page = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
    for name, command in vars(typer.main.get_command(cli.app))["commands"].items():
        assert f"pretrainrl {name}" in page
        [section] = [part for part in page.split("\n## ")[1:] if name in part.splitlines()[0].split(", ")]
        parameters = [item for each in (command, *vars(command).get("commands", {}).values()) for item in each.params]
        options = {option for parameter in parameters for option in parameter.opts if option.startswith("--")}
        assert [option for option in sorted(options) if f"`{option}`" not in section] == [], name


def test_ids_are_written_as_the_code_writes_them() -> None:
    """An id that nobody can have collected would make the pages' fixtures lie."""
    for page in PAGES:
        for game, kind in set(DATASET.findall(page.read_text(encoding="utf-8"))):
            assert dataset_id(game, kind) == f"pretrainrl/atari/{game}-{kind}-v0", label(page)
            assert kind == "random" or f"{game}-{kind}-v0" in RECORDINGS.names(), label(page)
