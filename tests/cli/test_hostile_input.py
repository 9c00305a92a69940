"""Every option of every command, given what nobody should give: one line and exit code 2, before any work."""

import inspect
import subprocess
import sys
import time
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import pretrainrl
from pretrainrl import cli
from pretrainrl.errors import InputError
from pretrainrl.runs.interrupt import InterruptedRunError

# Good arguments of commands, so that it is the hostile one that is refused. Other commands get names that nothing has.
GOOD: dict[str, tuple[str, ...]] = {
    "collect": ("pong", "--steps", "8", "--n-envs", "1"),
    "pretrain": ("idm", "--dataset", "pretrainrl/atari/pong-none-v0"),
    "probe": ("random.nature", "--dataset", "pretrainrl/atari/pong-none-v0"),
    "finetune": ("bc", "--game", "pong", "--encoder", "random.nature", "--dataset", "pretrainrl/atari/pong-none-v0"),
    "benchmark run": ("atari-smoke", "--encoders", "no/such"),
    "benchmark plan": ("atari-smoke", "--encoders", "no/such"),
    "demo": ("--game", "nosuch"),
    "datasets build": ("nosuch",),
    "cache build": ("nosuch",),
}
HARMLESS = {("cache clear", "pattern"), ("cache info", "")}  # nothing matches, and nothing is done
LONG = "x" * 300


def commands(group: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        full = f"{prefix}{name}"
        yield from commands(command, f"{full} ") if hasattr(command, "commands") else [(full, command)]


def hostile(kind: str) -> list[str]:
    """Values for an option of a type, as Python prints it."""
    if "bool" in kind:
        return []
    if "int" in kind:
        return [str(10**30), "-1", "x"]
    if "float" in kind:
        return ["nan", "-1", "x[/a]"]
    return ["file", "file/x", LONG, "~nosuch/x", "x[/a]/nosuch", "\udcff/x", "a\x1b[31m\nb", "../../etc/nosuch"]


def cases() -> list[tuple[str, str, str]]:
    """Command, name of an argument or option, and value."""
    found = []
    for name, command in commands(typer.main.get_command(cli.app)):
        kinds = typing.get_type_hints(inspect.unwrap(command.callback))
        known = [parameter.name for parameter in command.params if parameter.name in kinds]
        found += [(name, option, value) for option in known for value in hostile(str(kinds[option]))]
    return found


CASES = cases()


def arguments(name: str, changed: str, value: str) -> list[str]:
    """A command's arguments, one of them hostile."""
    command = dict(commands(typer.main.get_command(cli.app)))[name]
    given, options = list(GOOD.get(name, ())), []
    for parameter in command.params:
        hostile_here = parameter.name == changed
        if parameter.param_type_name == "argument":
            if hostile_here and given and not given[0].startswith("--"):
                given[0] = value
            elif hostile_here or (parameter.required and name not in GOOD):
                given.append(value if hostile_here else "no/such")
        elif hostile_here or (parameter.required and name not in GOOD):
            options += [parameter.opts[0], *[value if hostile_here else "no/such"] * max(1, parameter.nargs)]
    return [*name.split(), *given, *options]


def call(monkeypatch: pytest.MonkeyPatch, *given: str) -> int:
    monkeypatch.setattr(sys, "argv", ["pretrainrl", *given])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return int(stop.value.code or 0)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PRETRAINRL_HOME", "home")
    monkeypatch.setenv("MINARI_DATASETS_PATH", "sets")
    (tmp_path / "file").touch()
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({name for name, *_ in CASES}))
def test_every_option_of_every_command(
    name: str, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for changed, value in [case[1:] for case in CASES if case[0] == name]:
        given = arguments(name, changed, value)
        code = call(monkeypatch, *given)
        error = capsys.readouterr().err
        if (name, changed) in HARMLESS:
            assert code == 0
            continue
        if name == "collect" and changed in ("kind", "out", "recording", "version") and code == 0:
            continue  # an unusual name, but one that a file can have
        assert code == 2, (given, error)
        assert len(error.strip().splitlines()) == 1 and error.startswith("error: "), (given, error)
        assert "\x1b" not in error.replace("\x1b[1;31m", "").replace("\x1b[0m", ""), given
    assert name == "collect" or not {path.name for path in here.iterdir()} - {"file"}


@pytest.mark.parametrize("variable", ["PRETRAINRL_HOME", "MINARI_DATASETS_PATH"])
@pytest.mark.parametrize("value", ["file", LONG, "~nosuch/x", "file/below"])
def test_variables(
    variable: str, value: str, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(variable, value)
    assert call(monkeypatch, "collect", "pong", "--agent", "qrdqn", "--steps", "8", "--n-envs", "1") == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and len(error.strip().splitlines()) == 1


def test_relative_folders_are_where_they_were(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for root, out in (("sets", None), ("other", "mine"), ("~/home", None), ("other", "~/tilde")):
        monkeypatch.setenv("HOME", str(here))
        monkeypatch.setenv("MINARI_DATASETS_PATH", root)
        found = pretrainrl.collect("pong", steps=8, n_envs=1, out=out, recording="recorded", version=len(root), progress=False)
        assert found.folder == here / (out or root).replace("~/", "")
        assert (found.folder / found.datasets[0]).is_dir()
        assert all(path.is_absolute() and path.is_file() for path in found.recordings)
    assert not (here / "~").exists() and not (here / "other").exists()


@pytest.mark.parametrize("seed", [-1, 2**31, 20_000_000_000])
def test_seeds_of_the_facade(seed: int) -> None:
    game: dict[str, Any] = {"seed": seed, "progress": False}
    for make in (
        lambda: pretrainrl.collect("pong", **game),
        lambda: pretrainrl.pretrain("idm", "pretrainrl/atari/pong-none-v0", **game),
        lambda: pretrainrl.probe("random.nature", "pretrainrl/atari/pong-none-v0", **game),
        lambda: pretrainrl.finetune("qrdqn", "pong", "random.nature", **game),
    ):
        with pytest.raises(InputError, match="seed must be in"):
            make()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), InterruptedRunError("interrupted; go on with --resume")])
def test_interruption_exits_130(
    error: BaseException, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(pattern: str) -> list[str]:
        raise error

    monkeypatch.setattr(pretrainrl, "list_encoders", interrupted)
    assert call(monkeypatch, "verify") == 130
    assert capsys.readouterr().err.startswith("error: interrupted")


def test_interruption_while_it_starts() -> None:
    script = """
import sys
class Interrupting:
    def find_spec(self, name, *_):
        if name == "typer":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupting())
from pretrainrl.__main__ import main
main()
"""
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stderr) == (130, "error: interrupted\n")


def test_output_that_nobody_reads() -> None:
    command = [sys.executable, "-c", "import time; time.sleep(4); from pretrainrl.cli import main; main()", "encoders"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    time.sleep(0.1)
    assert b"Traceback" not in process.stderr.read()
    assert process.wait() in (0, 1)
