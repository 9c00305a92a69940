"""The command line: one file per group of commands, and one place that turns errors into one line and exit code 2."""

from __future__ import annotations

import errno
import io
import os
import sys
import warnings
from typing import Any, NoReturn, TextIO

import typer
from rich.text import Text

from pretrainrl.cli import benchmark, cache, datasets, encoders, import_
from pretrainrl.cli.collect import collect
from pretrainrl.cli.demo import demo
from pretrainrl.cli.finetune import finetune
from pretrainrl.cli.parity import convert, parity
from pretrainrl.cli.pretrain import pretrain
from pretrainrl.cli.probe import probe
from pretrainrl.cli.report import leaderboard, report
from pretrainrl.errors import PretrainRLError
from pretrainrl.paths import disk_full_reason, set_absolute_folders
from pretrainrl.progress import plain_console
from pretrainrl.runs.interrupt import InterruptedRunError

_USAGE_ERROR = typer.BadParameter.__mro__[2]  # click's ClickException; newer releases of typer have a click of their own
_PLAYING = {"benchmark", "collect", "demo", "finetune", "import", "parity", "pretrain", "probe"}
app = typer.Typer(
    name="pretrainrl",
    help="Pre-trained frozen encoders for vision-based reinforcement learning.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def prepare_process(context: typer.Context) -> None:
    """Set what concerns the whole process, which a library call never does."""
    from pretrainrl.malloc import keep_freed_memory

    keep_freed_memory()
    set_absolute_folders()
    if context.invoked_subcommand in _PLAYING:
        from pretrainrl.games import silence_emulator

        silence_emulator()


app.command("demo")(demo)
app.command("encoders")(encoders.encoders)
app.command("info")(encoders.info)
app.command("verify")(encoders.verify)
app.command("collect")(collect)
app.add_typer(import_.app, name="import")
app.add_typer(datasets.app, name="datasets")
app.add_typer(cache.app, name="cache")
app.command("pretrain")(pretrain)
app.command("probe")(probe)
app.command("finetune")(finetune)
app.add_typer(benchmark.app, name="benchmark")
app.command("report")(report)
app.command("leaderboard")(leaderboard)
app.command("parity")(parity)
app.command("convert")(convert)


def main() -> None:
    """Run the command line. Bad input or a full disk prints one line and exits with 2, an interruption with 130."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # what users name need not be text of the terminal's encoding
    warnings.showwarning = _show_warning
    try:
        code = app(standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        code = 130  # as shells have it for a program that Ctrl-C ended
    except InterruptedRunError as error:
        _fail(str(error), code=130)
    except PretrainRLError as error:
        _fail(str(error))
    except MemoryError:
        _fail("there is not enough memory")
    except OSError as error:
        _fail(_phrase(error))
    except Exception as error:
        if not isinstance(error, _USAGE_ERROR):
            raise
        _fail_usage(error)
    if code == 130:
        _fail("interrupted", code)
    sys.exit(code if isinstance(code, int) else 0)


def _fail_usage(error: Any) -> NoReturn:
    """Say what is wrong with the arguments, or print the help of a command that was given none."""
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        sys.exit(error.exit_code)
    help_of = f"; see {error.ctx.command_path} --help" if getattr(error, "ctx", None) else ""
    _fail(error.format_message().rstrip(".") + help_of)


def _phrase(error: OSError) -> str:
    """Say in one line what the system refuses; an error that is not about a file is the program's own.

    Raises:
        OSError: It is such an error.
    """
    if error.errno == errno.EPIPE:  # the reader of the output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that nothing is written to it at exit
        sys.exit(1)
    if reason := disk_full_reason(error):
        return f"cannot write {error.filename or 'to the disk'}: {reason}"
    if error.filename is None:
        raise error
    return f"cannot use {error.filename}: {error.strerror}"


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print a warning in one line; those of the package itself are for the user, and need no place in the code."""
    place = "" if issubclass(category, UserWarning) else f"{filename}:{lineno}: {category.__name__}: "
    plain_console(stderr=True).print(Text("warning: ", "bold yellow") + Text(_one_line(f"{place}{message}")), soft_wrap=True)


def _fail(message: str, code: int = 2) -> NoReturn:
    plain_console(stderr=True).print(Text("error: ", "bold red") + Text(_one_line(message)), soft_wrap=True)
    sys.exit(code)


def _one_line(message: str) -> str:
    """Return a message with nothing in it that a terminal would act upon: a name can have any character."""
    text = " ".join(message.split("\n"))
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
