"""Checkpoints of Atari-PB become encoders, and encoders become checkpoints."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from parity_fixtures import DATA, command

import pretrainrl
from pretrainrl.encoders.check import verify_encoder
from pretrainrl.errors import InputError, UnknownNameError, WeightsError
from pretrainrl.parity.convert import export_checkpoint, import_checkpoint

CHECKPOINT = DATA / "siammae.pth"
STUDY = pretrainrl.list_encoders("*.resnet50_atari50", include_manual=True)


def save(content: object, path: Path) -> Path:
    torch.save(content, path)
    return path


def damaged(tmp_path: Path, **changes: torch.Tensor | None) -> Path:
    """The checkpoint with tensors of the backbone replaced, or left out where None."""
    content = torch.load(CHECKPOINT, weights_only=True)
    content["backbone"].update({key.replace("__", "."): value for key, value in changes.items()})
    content["backbone"] = {key: value for key, value in content["backbone"].items() if value is not None}
    return save(content, tmp_path / "siammae.pth")


def test_every_objective_of_atari_pb_has_a_card_that_is_listed_on_request_only():
    assert len(STUDY) == 12
    assert not set(STUDY) & set(pretrainrl.list_encoders())


@pytest.mark.parametrize("name", STUDY)
def test_an_encoder_of_atari_pb_needs_a_file(name: str):
    with pytest.raises(WeightsError, match=r'pass weights="atari-pb:'):
        pretrainrl.make_encoder(name)
    encoder = pretrainrl.make_encoder(name, weights=f"atari-pb:{CHECKPOINT}")
    assert encoder.feature_map_shape == (128, 6, 6)
    assert encoder.features_dim == 128


def test_features_are_those_of_the_reference():
    with np.load(DATA / "siammae.npz") as arrays:
        frames = torch.from_numpy(arrays["batch/obs"][:, 0, :, 0])
        expected = torch.from_numpy(arrays["expected/features"][:, 0])
    encoder = pretrainrl.make_encoder("siammae.resnet50_atari50", weights=f"atari-pb:{CHECKPOINT}")
    assert (encoder.feature_map(frames) - expected).abs().max() <= 1e-4 * expected.abs().max()
    pretrainrl.check_encoder(encoder)


def test_a_checkpoint_of_another_backbone():
    with pytest.raises(WeightsError, match="ResNet-50"):
        pretrainrl.make_encoder("random.impala", weights=f"atari-pb:{CHECKPOINT}")


def test_there_and_back(tmp_path: Path):
    result = command("convert", CHECKPOINT, tmp_path / "siammae")
    assert result.returncode == 0, result.stderr
    verify_encoder(str(tmp_path / "siammae"))
    card = pretrainrl.make_encoder(tmp_path / "siammae").card
    assert (card.objective, card.backbone_options) == ("siammae", {"width": 1 / 16})
    result = command("convert", tmp_path / "siammae", tmp_path / "back.pth")
    assert result.returncode == 0, result.stderr
    before = torch.load(CHECKPOINT, weights_only=True)["backbone"]
    after = torch.load(tmp_path / "back.pth", weights_only=True)["backbone"]
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_nothing_is_overwritten_or_left_behind(tmp_path: Path):
    (tmp_path / "there").mkdir()
    with pytest.raises(InputError, match="exists"):
        import_checkpoint(CHECKPOINT, tmp_path / "there")
    (tmp_path / "there.pth").touch()
    with pytest.raises(InputError, match="exists"):
        export_checkpoint("random.resnet50", tmp_path / "there.pth")
    with pytest.raises(InputError, match="ResNet-50 only"):
        export_checkpoint("random.impala", tmp_path / "new.pth")
    with pytest.raises(UnknownNameError):
        import_checkpoint(CHECKPOINT, tmp_path / "new", "siammea")
    assert {path.name for path in tmp_path.iterdir()} == {"there", "there.pth"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layer2__0__conv2__weight": None}, "layer2.0.conv2.weight is missing"),
        ({"layer5__0__conv1__weight": torch.zeros(1)}, "layer5.0.conv1.weight is unexpected"),
        ({"layer1__0__conv2__weight": torch.zeros(4, 4, 1, 1)}, r"layer1.0.conv2.weight is \(4, 4, 1, 1\) instead of"),
        ({"layer1__0__conv2__weight": torch.full((4, 4, 3, 3), torch.inf)}, "not finite"),
        ({"stem__0__weight": torch.zeros(64, 4, 7, 7)}, "differs from conv1.weight"),
    ],
)
def test_wrong_tensors_are_named(changes: dict[str, torch.Tensor | None], message: str, tmp_path: Path):
    path = damaged(tmp_path, **changes)
    with pytest.raises(WeightsError, match=message):
        pretrainrl.make_encoder("siammae.resnet50_atari50", weights=f"atari-pb:{path}")
    with pytest.raises(WeightsError, match=message):
        import_checkpoint(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


class Hostile:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("made-by-a-pickle"),)  # type: ignore[return-value]


def test_files_that_are_no_checkpoints(tmp_path: Path):
    cut = tmp_path / "cut.pth"
    cut.write_bytes(CHECKPOINT.read_bytes()[:9999])
    text = tmp_path / "text.pth"
    text.write_text("<html>404</html>")
    pickled = tmp_path / "pickled.pth"
    pickled.write_bytes(pickle.dumps({"backbone": Hostile()}))
    hostile = save({"backbone": {"conv1.weight": Hostile()}}, tmp_path / "hostile.pth")
    other = save({"weights": torch.zeros(3)}, tmp_path / "other.pth")
    strange = save({"backbone": {"conv1.weight": 3}}, tmp_path / "strange.pth")
    for path, message in (
        (cut, "not a readable checkpoint"),
        (text, "no checkpoint"),
        (pickled, "pickled objects"),
        (hostile, "pickled objects"),
        (other, "no state dict `backbone`"),
        (strange, "no tensors: conv1.weight"),
        (tmp_path / "missing.pth", "no such file"),
    ):
        with pytest.raises(WeightsError, match=message):
            pretrainrl.make_encoder("bc.resnet50_atari50", weights=f"atari-pb:{path}")
    assert command("convert", text, tmp_path / "out").returncode == 2
    assert not (tmp_path / "out").exists()
