"""The command line: one file per group of commands, and one place that turns errors into one line and exit code 2."""

from __future__ import annotations

import sys

import typer

from pretrainrl.cli import benchmark, cache, datasets, encoders, import_
from pretrainrl.cli.collect import collect
from pretrainrl.cli.demo import demo
from pretrainrl.cli.finetune import finetune
from pretrainrl.cli.parity import convert, parity
from pretrainrl.cli.pretrain import pretrain
from pretrainrl.cli.probe import probe
from pretrainrl.cli.report import leaderboard, report
from pretrainrl.errors import PretrainRLError
from pretrainrl.paths import disk_full_reason
from pretrainrl.runs.interrupt import InterruptedRunError

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
    try:
        app()
    except InterruptedRunError as error:
        _fail(str(error), code=130)  # as shells have it for a program that Ctrl-C ended
    except PretrainRLError as error:
        _fail(str(error))
    except OSError as error:
        reason = disk_full_reason(error)
        if reason is None:
            raise
        _fail(f"cannot write {error.filename or 'to the disk'}: {reason}")


def _fail(message: str, code: int = 2) -> None:
    from rich.console import Console
    from rich.markup import escape

    Console(stderr=True).print(f"[bold red]error:[/] {escape(message)}", soft_wrap=True, highlight=False)
    sys.exit(code)
