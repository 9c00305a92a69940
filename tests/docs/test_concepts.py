"""The picture of the page on concepts is what its script draws."""

import importlib.util
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "docs" / "figures" / "concepts.py"


def test_picture_is_up_to_date() -> None:
    spec = importlib.util.spec_from_file_location("docs_figures_concepts", SCRIPT)
    assert spec is not None and spec.loader is not None
    concepts = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(concepts)
    assert concepts.OUT.read_text(encoding="utf-8") == concepts.draw(), "run `make figures`"
