"""The demo: whole, at its smallest size; interrupted and gone on with; with bad input."""

import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from pretrainrl import cli
from pretrainrl.demo import run as demo_run
from pretrainrl.demo import run_demo
from pretrainrl.demo.curves import Line, line_chart, spread, ticks
from pretrainrl.demo.steps import Size
from pretrainrl.errors import InputError, MissingExtraError, UnknownNameError
from pretrainrl.runs.interrupt import InterruptedRunError

TOY = Size(transitions=64, pretraining_steps=2, batch_size=8, agent_steps=32, evaluation_games=1, evaluation_steps=8)


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


@pytest.mark.slow
def test_the_page_needs_nothing_else(finished: Path) -> None:
    page = page_of(finished)
    sources = re.findall(r"""(?:src|href)=["']([^"']*)|url\(([^)]*)|@import""", page)
    outside = [link for link, _ in sources if not link.startswith("data:")]
    assert all(f'<a href="{link}">' in page for link in outside)  # what a reader may click on
    assert "<script" not in page and '<link rel="stylesheet' not in page
    assert {"{{", "{%", "Undefined", "None"} & set(re.findall(r"\{\{|\{%|Undefined|None", page)) == set()


@pytest.mark.slow
def test_the_page_shows_what_was_measured(finished: Path) -> None:
    page = page_of(finished)
    assert page.count('<img src="data:image/png') in range(6, 13) and page.count("<svg") == 2
    for game, title in (("mspacman", "Ms Pacman"), ("breakout", "Breakout")):
        assert f"pretrainrl/atari/{game}-random-v0" in page and f"{title}, reconstruction" in page
    for text in ("windows a second", "bytes a frame on disk", "environment steps a second", "1 seed", "sha256", "SiamMAE"):
        assert text in page, text


@pytest.mark.slow
def test_the_code_on_the_page_works(finished: Path) -> None:
    code = re.search(r"<pre><code>(from pretrainrl.*?)</code></pre>", page_of(finished), re.S)
    assert code is not None
    lines = code[1].replace("&#39;", "'").replace("&#34;", '"').replace("10_000, progress_bar=True", "16")
    assert len([line for line in lines.splitlines() if line]) == 5
    namespace: dict[str, Any] = {}
    exec(lines, namespace)
    assert namespace["env"].encoder.name == "siammae.demo"
    assert namespace["env"].encoder.sha256[:16] in page_of(finished)


@pytest.mark.slow
def test_the_users_folders_are_left_alone(finished: Path) -> None:
    assert Path(os.environ["MINARI_DATASETS_PATH"]) not in finished.parents
    assert not (Path(os.environ["MINARI_DATASETS_PATH"]) / "pretrainrl/atari/mspacman-random-v0").exists()
    assert (finished / "datasets/pretrainrl/atari/mspacman-random-v0/data").is_dir()


@pytest.mark.slow
def test_a_finished_demo_only_writes_its_page_again(finished: Path) -> None:
    def work() -> dict[str, int]:
        kept = [*finished.glob("results/*"), *finished.glob("encoder/*.*"), *finished.glob("datasets/**/*.hdf5")]
        return {str(path): path.stat().st_mtime_ns for path in kept}

    before, page = work(), page_of(finished)
    (finished / "index.html").unlink()
    assert run_demo(("ms_pacman", "breakout"), finished, fast=True, resume=True) == finished / "index.html"
    assert work() == before and page_of(finished) == page


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "kept"), [("collect breakout", {"collect-boxing"}), ("QR-DQN on random", 3)])
def test_stopped_and_gone_on_with(stage: str, kept: set[str] | int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_run, "FAST", TOY)
    once = demo_run._Demo.once

    def stopping(self: Any, kind: Any, name: str, total: int, work: Any) -> Any:
        def stopped(report: Any) -> Any:
            os.kill(os.getpid(), signal.SIGINT)
            return work(report)

        return once(self, kind, name, total, stopped if name == stage else work)

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(demo_run._Demo, "once", stopping)
        with pytest.raises(InterruptedRunError, match="go on with the same command and --resume"):
            run_demo(("boxing", "breakout"), out, fast=True)
    results = {path.stem for path in (out / "results").iterdir()}
    assert results == kept if isinstance(kept, set) else len(results) == kept
    assert not list(out.rglob("*.tmp")) and not list(out.rglob(".write-*")) and not (out / "index.html").exists()
    times = {path: path.stat().st_mtime_ns for path in (out / "results").iterdir()}
    assert run_demo(("boxing", "breakout"), out, fast=True, resume=True).exists()
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_bad_games(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'boxing'"):
        run_demo(("boxin", "pong"), tmp_path / "out")
    with pytest.raises(InputError, match="two different games"):
        run_demo(("ms_pacman", "MsPacman"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_missing_extra_is_named_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingExtraError, match=r'pip install "pretrainrl\[plot\]"'):
        run_demo(("boxing", "pong"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_folders_that_will_not_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="cannot write to"):
        run_demo(("boxing", "pong"), tmp_path / "file" / "out")
    with pytest.raises(InputError, match="is not empty"):
        run_demo(("boxing", "pong"), tmp_path)
    with pytest.raises(InputError, match="holds no run to go on with"):
        run_demo(("boxing", "pong"), tmp_path, resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_another_demo_is_not_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_run._Demo, "run", lambda self: self.out)
    run_demo(("boxing", "pong"), tmp_path / "out", seed=1)
    assert run_demo(("boxing", "pong"), tmp_path / "out", seed=1, resume=True)
    with pytest.raises(InputError, match="other settings"):
        run_demo(("boxing", "pong"), tmp_path / "out", seed=2, resume=True)


def test_charts() -> None:
    assert (
        ticks(0, 24_000) == [0, 5_000, 10_000, 15_000, 20_000]
        and ticks(-3, 9) == [-2.5, 0, 2.5, 5, 7.5]
        and ticks(0, 0) == [0]
    )
    assert spread([10, 12, 80], 17) == pytest.approx([2.5, 19.5, 80])
    drawing = line_chart([Line("a", "one", [(0, -1), (10, 1)]), Line("level", "two", [(0, 0.5)])], "x", "y")
    rising, level = ([tuple(map(float, point.split(","))) for point in points.split()] for _, points in drawing.lines)
    assert rising[0] == (drawing.left, drawing.height - drawing.bottom) and rising[1][1] == drawing.top
    assert level[0][0] == rising[0][0] and level[1][0] == rising[1][0] and level[0][1] == level[1][1]
    assert [text for _, _, text in drawing.labels] == ["a", "level"]


def test_a_flat_line_can_be_drawn() -> None:
    assert line_chart([Line("a", "one", [(1, 0), (2, 0)])], "x", "y").lines
