"""Long work on a disk that fills up: one line that says so, and what was written before is whole."""

import subprocess
import sys
from pathlib import Path

import pytest

from pretrainrl.integrations.minari import collect_dataset
from pretrainrl.paths import atomic_path, disk_full_reason

# A quota on the size of files, as a full disk but without filling one.
SCRIPT = """
import resource, sys
from pretrainrl import cli

resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
del sys.argv[1]
cli.main()
"""
PRETRAIN = "pretrain curl --dataset pretrainrl/atari/pong-random-v0 --steps 2 --batch-size 4 --checkpoint-every 1 --out run"
FINETUNE = (
    "finetune qrdqn --game pong --encoder random.nature --features pooled --steps 40 --n-envs 2 --eval-freq 1000 --out run"
)


def with_quota(size: int, command: str, folder: Path) -> str:
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(size), *command.split()], cwd=folder, capture_output=True, text=True
    )
    assert result.returncode == 2 and "Traceback" not in result.stderr, result.stderr
    return result.stderr


@pytest.mark.slow
def test_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    collect_dataset("pong", steps=64, n_envs=2)
    for size, command, where in ((700_000, PRETRAIN, "run"), (50_000, FINETUNE, "run/qrdqn/ALE-Pong-v5_1")):
        said = with_quota(size, command, tmp_path)
        assert f"error: cannot write {tmp_path}/run/" in said and "checkpoints/step_" in said, said
        assert "File too large; what was there before is unchanged" in said, said
        assert list((tmp_path / where / "checkpoints").iterdir()) == []


def test_reasons_are_found_behind_other_errors() -> None:
    assert disk_full_reason(ValueError("no")) is None and disk_full_reason(PermissionError(13, "Permission denied")) is None
    assert disk_full_reason(RuntimeError("I/O error: No space left on device (os error 28)")) == "No space left on device"
    try:
        try:
            raise OSError(28, "whatever it says")
        except OSError as error:
            raise RuntimeError("unexpected pos") from error
    except RuntimeError as error:
        assert disk_full_reason(error) == "No space left on device"


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    for error in (PermissionError(13, "Permission denied"), ValueError("no")):
        with pytest.raises(type(error)), atomic_path(tmp_path / "file") as temporary:
            temporary.touch()
            raise error
    assert list(tmp_path.iterdir()) == []
