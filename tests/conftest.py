"""Every test run has its own caches, datasets and settings, and leaves the user's alone."""

import os
from collections.abc import Iterator

import pytest

os.environ["COLUMNS"] = "200"  # before consoles are made, which keep the width that they find


@pytest.fixture(autouse=True, scope="session")
def _own_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("session")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRETRAINRL_HOME", str(folder / "home"))
        patch.setenv("MINARI_DATASETS_PATH", str(folder / "datasets"))
        patch.setenv("NO_COLOR", "1")
        yield


@pytest.fixture(autouse=True, scope="session")
def _threads() -> None:
    """Toy networks are slowest on many threads, and tests run in a process for every core."""
    import torch

    torch.set_num_threads(1)
