"""Names of devices: a number means that device, everywhere, and one that is not there is refused before any work."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pretrainrl.device import resolve_device
from pretrainrl.errors import InputError
from pretrainrl.pretraining import PretrainConfig, loop


@pytest.fixture
def _two_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)


@pytest.mark.usefixtures("_two_devices")
@pytest.mark.parametrize(("name", "index"), [("cuda:0", 0), ("cuda:1", 1), ("cuda", 1), ("auto", 1)])
def test_a_number_is_that_device(name: str, index: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_device(name) == torch.device("cuda", index)
    given: dict[str, Any] = {}

    class FakeFabric:
        def __init__(self, **arguments: Any) -> None:
            given.update(arguments)

        def launch(self) -> None:
            pass

    monkeypatch.setattr(loop, "Fabric", FakeFabric)
    loop._launch(PretrainConfig.of("idm", ("a/b-v0",), steps=1, batch_size=2), name)
    assert (given["accelerator"], given["devices"], given["strategy"]) == ("cuda", [index], "auto")


@pytest.mark.usefixtures("_two_devices")
def test_what_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="there is no device 'cuda:2' here, but 2 CUDA devices"):
        resolve_device("cuda:2")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="each of the 2 processes has a device of its own; give device 'cuda', not 'cuda:1'"):
        loop._launch(PretrainConfig.of("idm", ("a/b-v0",), steps=1, batch_size=2), "cuda:1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="there is no CUDA device here"):
        resolve_device("cuda:1")
