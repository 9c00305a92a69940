"""The demo: whole, at its smallest size; interrupted and gone on with; with bad input."""

import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

import pretrainrl
from pretrainrl import cli, demo
from pretrainrl.data.episode import EpisodeRecorder
from pretrainrl.demo import run_demo
from pretrainrl.errors import InputError, MissingExtraError, UnknownNameError
from pretrainrl.finetuning.segments import FinetuneSegments
from pretrainrl.runs.interrupt import InterruptedRunError

TOY: dict[str, dict[str, Any]] = {
    "collect": {"steps": 64},
    "pretrain": {"steps": 2, "batch_size": 8},
    "finetune": {"steps": 32, "eval_freq": 16, "eval_episodes": 1, "max_episode_steps": 8},
}


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
        kept = [*finished.glob("agents/**/*.*"), *finished.glob("encoder/*.*"), *finished.glob("datasets/**/*.hdf5")]
        return {str(path): path.stat().st_mtime_ns for path in kept}

    before, page = work(), page_of(finished)
    (finished / "index.html").unlink()
    assert run_demo(("ms_pacman", "breakout"), finished, fast=True, resume=True) == finished / "index.html"
    assert work() == before and page_of(finished) == page


def interrupt(patch: pytest.MonkeyPatch, step: str) -> None:
    """Ask to stop while Breakout is collected, or while the second agent learns."""
    owner, method = (EpisodeRecorder, "add") if step == "collect" else (FinetuneSegments, "_on_step")
    go_on = getattr(owner, method)

    def stopping(self: Any, *arguments: Any) -> Any:
        if getattr(self, "game", "breakout") == "breakout" and (
            step == "collect" or "agents/random" in str(self._folder.path)
        ):
            os.kill(os.getpid(), signal.SIGINT)
            patch.setattr(owner, method, go_on)
        return go_on(self, *arguments)

    patch.setattr(owner, method, stopping)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("step", "kept"), [("collect", {"boxing"}), ("finetune", {"boxing", "breakout", "siammae.demo"})], ids=["frames", "agent"]
)
def test_stopped_and_gone_on_with(step: str, kept: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "FAST", TOY)
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        interrupt(patch, step)
        with pytest.raises(InterruptedRunError, match="go on with the same command and --resume"):
            run_demo(("boxing", "breakout"), out, fast=True)
    before = demo.DemoRecord.read(out / "config.toml").seconds
    assert set(before) == kept
    assert not list(out.rglob("*.tmp")) and not list(out.rglob(".write-*")) and not (out / "index.html").exists()
    assert run_demo(("boxing", "breakout"), out, fast=True, resume=True).exists()
    after = demo.DemoRecord.read(out / "config.toml").seconds
    assert {name: after[name] for name in kept} == before and len(after) == 4


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
    def stopped(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pretrainrl, "collect", stopped, raising=False)
    for resume in (False, True):
        with pytest.raises(InterruptedRunError):
            run_demo(("boxing", "pong"), tmp_path / "out", seed=1, resume=resume)
    with pytest.raises(InputError, match="other settings"):
        run_demo(("boxing", "pong"), tmp_path / "out", seed=2, resume=True)
