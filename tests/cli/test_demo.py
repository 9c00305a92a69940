"""The demo: whole, at its smallest size; interrupted and gone on with; with bad input."""

import os
import re
import signal
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from pretrainrl import cli, demo
from pretrainrl.demo import LEARNERS, DemoSize, Played, run_demo, verdict
from pretrainrl.errors import InputError, MissingExtraError, UnknownNameError
from pretrainrl.integrations.sb3 import BehaviorCloning
from pretrainrl.runs.interrupt import InterruptedRunError


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a demo that has run on the command line."""
    out = tmp_path_factory.mktemp("demo") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["pretrainrl", "demo", "--fast", "--out", str(out)])
        with pytest.raises(SystemExit) as end:
            cli.main()
    assert not end.value.code
    return out


def page_of(out: Path) -> str:
    return (out / "index.html").read_text(encoding="utf-8")


def played_in(out: Path) -> dict[str, Played]:
    return {name: Played.read(out / f"{name}.toml") for name in LEARNERS if (out / f"{name}.toml").exists()}


@pytest.mark.slow
def test_the_page_needs_nothing_else(finished: Path) -> None:
    page = page_of(finished)
    sources = re.findall(r"""(?:src|href)=["']([^"']*)|url\(([^)]*)|@import""", page)
    outside = [link for link, _ in sources if not link.startswith("data:")]
    assert all(f'<a href="{link}">' in page for link in outside)  # what a reader may click on
    assert "<script" not in page and '<link rel="stylesheet' not in page
    assert set(re.findall(r"\{\{|\{%|Undefined|None", page)) == set()


@pytest.mark.slow
def test_the_page_shows_what_was_measured(finished: Path) -> None:
    page, played = page_of(finished), played_in(finished)
    assert list(played) == list(LEARNERS)
    assert page.count('<img src="data:image/png') == sum(len(each.pictures) for each in played.values()) > 3
    assert all(len(each.scores) == 2 and each.epochs > 0 for each in played.values())
    assert played["nature"].encoding == 0 < played["atc"].encoding
    for text in (
        "random play",
        "passes over the data",
        "nothing can be learned",
        "One seed",
        "boxing-random",
    ):
        assert text in page, text


@pytest.mark.slow
def test_the_code_on_the_page_works(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = re.search(r"<pre><code>(from pretrainrl.*?)</code></pre>", page_of(finished), re.S)
    assert code is not None
    lines = code[1].replace("&#39;", "'").replace("&#34;", '"').replace("n_epochs=10", "n_epochs=1")
    assert len([line for line in lines.splitlines() if line]) == 5
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(finished / "datasets"))
    monkeypatch.setenv("PRETRAINRL_HOME", str(finished / "cache"))
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {}
    exec(lines.replace("progress_bar=True", "progress_bar=False"), namespace)
    assert BehaviorCloning.load(tmp_path / "boxing").num_timesteps > 0


@pytest.mark.slow
def test_the_users_folders_are_left_alone(finished: Path) -> None:
    assert Path(os.environ["MINARI_DATASETS_PATH"]) not in finished.parents
    assert (finished / "datasets/pretrainrl/atari/boxing-random-v0/data").is_dir()


@pytest.mark.slow
def test_a_finished_demo_only_writes_its_page_again(finished: Path) -> None:
    def work() -> dict[str, int]:
        return {
            str(path): path.stat().st_mtime_ns for path in [*finished.glob("*.toml"), *finished.glob("datasets/**/*.hdf5")]
        }

    before, page = work(), page_of(finished)
    (finished / "index.html").unlink()
    assert run_demo("boxing", finished, fast=True, resume=True) == finished / "index.html"
    assert work() == before and page_of(finished) == page


@pytest.mark.slow
def test_stopped_and_gone_on_with(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second agent is interrupted; the first is kept as it is."""
    monkeypatch.setattr(demo, "FAST", DemoSize(0.5, 1, 8))
    monkeypatch.setattr(demo, "environment_variables", lambda **_: nullcontext())
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(finished / "datasets"))
    monkeypatch.setenv("PRETRAINRL_HOME", str(finished / "cache"))
    out, learn = tmp_path / "out", BehaviorCloning.learn
    learned = 0

    def stopping(self: Any, *arguments: Any, **options: Any) -> Any:
        nonlocal learned
        learned += 1
        if learned == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return learn(self, *arguments, **options)

    monkeypatch.setattr(BehaviorCloning, "learn", stopping)
    with pytest.raises(InterruptedRunError, match="go on with the same command and --resume"):
        run_demo("boxing", out, fast=True)
    before = played_in(out)
    assert list(before) == ["atc"] and not (out / "index.html").exists()
    assert run_demo("boxing", out, fast=True, resume=True).exists()
    after = played_in(out)
    assert list(after) == list(LEARNERS) and after["atc"] == before["atc"]


def row(name: str, low: float, mean: float, high: float) -> dict[str, Any]:
    return {"name": name, "low": low, "mean": mean, "high": high}


def test_what_is_said_of_the_scores() -> None:
    said = verdict([row("atc", 40, 50, 60), row("random", 10, 20, 30), row("nature", 45, 55, 65)], 0.1, fast=False)
    assert "above that of random" in said and "below" not in said and "overlap" not in said
    said = verdict([row("atc", -9, -5, -1), row("random", -9, -6, -2), row("nature", 4, 5, 6)], 0.1, fast=False)
    assert "below that of nature" in said and "atc and random ended below random play" in said
    said = verdict([row("atc", 1, 5, 9), row("random", 1, 5, 9)], 0.1, fast=False)
    assert "do not decide" in said


def test_bad_games(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'boxing'"):
        run_demo("boxin", tmp_path / "out")
    with pytest.raises(UnknownNameError, match="unknown game with an expert's recording 'tetris'"):
        run_demo("tetris", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_missing_extra_is_named_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingExtraError, match=r'pip install "pretrainrl\[plot\]"'):
        run_demo("boxing", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_folders_that_will_not_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="cannot write to"):
        run_demo("boxing", tmp_path / "file" / "out")
    with pytest.raises(InputError, match="is not empty"):
        run_demo("boxing", tmp_path)
    with pytest.raises(InputError, match="holds no run to go on with"):
        run_demo("boxing", tmp_path, resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_another_demo_is_not_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(demo._Demo, "run", stopped)
    for resume in (False, True):
        with pytest.raises(InterruptedRunError):
            run_demo("boxing", tmp_path / "out", seed=1, resume=resume)
    with pytest.raises(InputError, match="other settings"):
        run_demo("boxing", tmp_path / "out", seed=2, resume=True)
