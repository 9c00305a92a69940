"""Hook of MkDocs: the pages of the objectives are listed in the navigation by themselves."""

from pathlib import Path
from typing import Any

PAGES = Path(__file__).resolve().parent.parent / "objectives"


def on_config(config: Any) -> None:
    """Add every page beside the overview to the section on objectives."""
    [section] = [entry["Objectives"] for entry in config.nav if "Objectives" in entry]
    listed = {page for entry in section for page in entry.values()}
    pages = (f"objectives/{path.name}" for path in sorted(PAGES.glob("*.md")))
    section.extend(page for page in pages if page not in listed)
