"""Every objective beside the reference implementation, on batches that it recorded."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from parity_fixtures import DATA, command

from pretrainrl.errors import InputError, UnknownNameError, WeightsError
from pretrainrl.parity import check_parity

FIXTURES = sorted(path.stem for path in DATA.glob("*.pth"))


@pytest.mark.parametrize("name", FIXTURES)
def test_objective_computes_what_the_reference_computes(name: str):
    result = check_parity(DATA / f"{name}.pth", DATA / f"{name}.npz")
    assert result.objective == ("cql_d" if name == "cql" else name)
    assert result.ok, result
    assert max(result.loss_rel_err, result.features_rel_err) <= 1e-5
    assert result.grad_norm_rel_err <= 1e-5


def test_the_fixtures_are_of_every_kind():
    assert len(FIXTURES) == 11


@pytest.mark.parametrize("key", ["expected/loss", "expected/features", "expected/backbone_grad_norm"])
def test_each_number_counts(key: str, tmp_path: Path):
    arrays: dict[str, Any] = dict(np.load(DATA / "bc.npz"))
    arrays[key] = arrays[key] * 1.01
    np.savez(tmp_path / "bc.npz", **arrays)
    assert not check_parity(DATA / "bc.pth", tmp_path / "bc.npz").ok


def test_prefixes_of_released_checkpoints(tmp_path: Path):
    content = torch.load(DATA / "atc.pth", weights_only=True)
    for network, prefix in (("backbone", "_orig_mod."), ("neck", "module."), ("head", "_orig_mod.module.")):
        content[network] = {prefix + key: value for key, value in content[network].items()}
    torch.save(content, tmp_path / "seed1-atc.pth")
    assert check_parity(tmp_path / "seed1-atc.pth", DATA / "atc.npz").ok


def test_the_tensors_tell_where_the_name_does_not(tmp_path: Path):
    for name in set(FIXTURES) - {"curl", "atc", "r3m"}:
        (tmp_path / "x.pth").write_bytes((DATA / f"{name}.pth").read_bytes())
        assert check_parity(tmp_path / "x.pth", DATA / f"{name}.npz").ok


def test_what_cannot_be_told_must_be_said(tmp_path: Path):
    (tmp_path / "x.pth").write_bytes((DATA / "atc.pth").read_bytes())
    with pytest.raises(WeightsError, match="--objective"):
        check_parity(tmp_path / "x.pth", DATA / "atc.npz")
    assert check_parity(tmp_path / "x.pth", DATA / "atc.npz", "atc").ok
    with pytest.raises(UnknownNameError, match="'atc'"):
        check_parity(tmp_path / "x.pth", DATA / "atc.npz", "act")


def test_wrong_tensors_are_all_listed(tmp_path: Path):
    content = torch.load(DATA / "bc.pth", weights_only=True)
    del content["neck"]["norm.bias"]
    content["neck"]["surplus"] = torch.zeros(1)
    content["head"]["weights.weight"] = content["head"]["weights.weight"][:, :-1]
    content["neck"]["norm.weight"][0] = torch.nan
    torch.save(content, tmp_path / "bc.pth")
    with pytest.raises(WeightsError) as caught:
        check_parity(tmp_path / "bc.pth", DATA / "bc.npz")
    for what in ("neck.norm.bias is missing", "neck.surplus is unexpected", "head.weight is (3, 575)", "not finite"):
        assert what in str(caught.value)


def test_batches_that_will_not_do(tmp_path: Path):
    path = tmp_path / "bc.npz"
    with pytest.raises(InputError, match="not a readable batch"):
        check_parity(DATA / "bc.pth", path)
    arrays: dict[str, Any] = dict(np.load(DATA / "bc.npz"))
    np.savez(path, **{key: value for key, value in arrays.items() if key not in ("batch/act", "expected/loss")})
    with pytest.raises(InputError, match="batch/act is missing, expected/loss is missing"):
        check_parity(DATA / "bc.pth", path)
    np.savez(path, **{**arrays, "batch/obs": arrays["batch/obs"][:, :, :, 0]})
    with pytest.raises(InputError, match=r"batch/obs is torch.uint8 \(4, 1, 4, 84, 84\)"):
        check_parity(DATA / "bc.pth", path)
    np.savez(path, **{**arrays, "batch/game_id": arrays["batch/game_id"] + 3})
    with pytest.raises(InputError, match="does not fit bc"):
        check_parity(DATA / "bc.pth", path)


def test_the_command(tmp_path: Path):
    agreed = command("parity", DATA / "dt.pth", DATA / "dt.npz")
    assert agreed.returncode == 0, agreed.stderr
    line = json.loads(agreed.stdout)
    assert line["ok"] and line["objective"] == "dt"
    assert {"loss", "expected_loss", "loss_rel_err", "features_rel_err", "grad_norm_rel_err"} <= line.keys()
    arrays: dict[str, Any] = dict(np.load(DATA / "dt.npz"))
    np.savez(tmp_path / "dt.npz", **{**arrays, "expected/loss": arrays["expected/loss"] + 1})
    differing = command("parity", DATA / "dt.pth", tmp_path / "dt.npz")
    assert differing.returncode == 1 and not json.loads(differing.stdout)["ok"]
    refused = command("parity", DATA / "dt.npz", DATA / "dt.npz")
    assert refused.returncode == 2 and not refused.stdout and "dt.npz" in refused.stderr
