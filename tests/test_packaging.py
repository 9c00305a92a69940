"""The distribution has every tracked file of the package, and nothing beside it."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent


def tracked(*folders: str) -> list[Path]:
    """Files that git tracks, relative to the root; those deleted in the working tree are left out."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("needs a git clone")
    listing = subprocess.run(["git", "ls-files", "-z", *folders], cwd=ROOT, capture_output=True, check=True).stdout
    paths = [Path(name) for name in listing.decode().split("\0") if name]
    return [path for path in paths if os.path.lexists(ROOT / path)]


def installed_name(path: Path) -> str:
    """Where a tracked file lies in site-packages."""
    match path.parts:
        case ("integrations", *rest):
            return Path("pretrainrl", "integrations", *rest).as_posix()
        case ("registry", *rest):
            return Path("pretrainrl", "_cards", *rest).as_posix()
    return path.as_posix()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel as it is published: built from the sdist, which is built from the tracked files."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for path in tracked():
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / path, source / path, follow_symlinks=False)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out)]
    result = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    [built] = out.glob("*.whl")
    return built


def test_wheel_holds_the_tracked_files_and_no_others(wheel: Path) -> None:
    expected = {installed_name(path) for path in tracked("pretrainrl", "integrations", "registry")}
    expected.discard("pretrainrl/integrations")  # the symlink; its target is installed in its place
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert sorted(expected - names) == [], "tracked, but not in the wheel: add its folder to pyproject.toml"
    assert sorted(names - expected) == [], "in the wheel, but not tracked"


def test_wheel_installs_one_top_level_package(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        [record] = [name for name in archive.namelist() if name.endswith(".dist-info/RECORD")]
        entries = archive.read(record).decode().splitlines()
    top_level = {entry.split("/")[0] for entry in entries}
    assert {name for name in top_level if not name.endswith(".dist-info")} == {"pretrainrl"}


def test_wheel_works_without_the_clone(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    script = """
import sys
import pretrainrl
assert pretrainrl.__file__.startswith(sys.argv[1]), pretrainrl.__file__
names = pretrainrl.list_encoders()
bundled = [name for name in names if not name.startswith("random")]
assert bundled, names
encoder = pretrainrl.make_encoder(bundled[0])
assert encoder.sha256 == encoder.card.weights.sha256
print(*names)
"""
    environment: dict[str, Any] = {**os.environ, "PYTHONPATH": str(site), "PRETRAINRL_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-c", script, str(site)]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "random.impala" in result.stdout.split()
