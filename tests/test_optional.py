"""What is said where an optional dependency is missing."""

from pathlib import Path

import pytest

from pretrainrl.errors import MissingExtraError
from pretrainrl.optional import require


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the module is there and something that it imports is not."""
    (tmp_path / "installed_half.py").write_text("import not_installed_at_all")
    monkeypatch.syspath_prepend(tmp_path)
    for module in ("not_installed_at_all", "installed_half"):
        with pytest.raises(MissingExtraError, match=r"not_installed_at_all is not installed; run: .*\[zoo\]"):
            require(module, "zoo")
