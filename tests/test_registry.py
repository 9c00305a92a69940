"""Names: discovery, suggestions, aliases, plugins."""

import sys
import warnings
from pathlib import Path

import pytest

import pretrainrl
from pretrainrl.cards import ENCODERS, OBJECTIVES, EncoderCard
from pretrainrl.errors import InputError, PluginError, UnknownNameError
from pretrainrl.registry import Registry, import_target


def test_unknown_name_suggests_the_nearest():
    with pytest.raises(UnknownNameError, match=r"unknown encoder 'siamae'; did you mean 'siammae"):
        pretrainrl.encoder_card("siamae")


def test_patterns_filter_and_names_are_sorted():
    names = pretrainrl.list_encoders("random*")
    assert names == ["random.impala", "random.nature", "random.resnet50"]
    assert pretrainrl.list_encoders("nothing*") == []


def test_a_bare_objective_is_its_default_variant():
    assert pretrainrl.encoder_card("random") is pretrainrl.encoder_card("random.impala")
    assert pretrainrl.list_encoders("random") == ["random.impala"]


def test_aliases_are_not_listed_and_suggested_all_the_same():
    assert all("." in name for name in pretrainrl.list_encoders(include_manual=True))
    with pytest.raises(UnknownNameError, match="'random'"):
        pretrainrl.encoder_card("randm")


def test_an_alias_that_another_encoder_takes_over_warns():
    registry: Registry[EncoderCard] = Registry("encoder", EncoderCard.read, alias=lambda card: card.objective)
    card = pretrainrl.encoder_card("random.impala")
    registry.register("random.other", card.model_copy(update={"objective": "other"}))
    with pytest.warns(UserWarning, match="'other' stood for 'random.other' and now stands for 'mine.other'"):
        registry.register("mine.other", card.model_copy(update={"name": "mine.other", "objective": "other"}))
    assert registry.get("other").name == "mine.other"


def test_every_file_is_named_after_its_card():
    for registry in (ENCODERS, OBJECTIVES):
        for card in registry.items():
            assert card.name in registry.names()


def test_replacing_a_name_warns(tmp_path: Path):
    registry: Registry[EncoderCard] = Registry("encoder", EncoderCard.read)
    card = pretrainrl.encoder_card("random.impala")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        registry.register("random.impala", card)  # the same again is no replacement
    with pytest.warns(UserWarning, match="'random.impala' is registered already"):
        registry.register("random.impala", card.model_copy(update={"summary": "another"}))


def test_entry_points_are_listed_without_being_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    package = tmp_path / "someones_encoder-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: someones-encoder\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("[pretrainrl.encoders]\nsomeones.net = someones_encoder:card\n")
    (tmp_path / "someones_encoder.py").write_text(
        "import pretrainrl\n"
        "def card():\n"
        "    return pretrainrl.encoder_card('random.nature').model_copy(update={'name': 'someones.net'})\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    registry = Registry("encoder", EncoderCard.read, group="pretrainrl.encoders", alias=lambda card: card.name.split(".")[0])
    assert "someones.net" in registry.names()
    assert "someones_encoder" not in sys.modules
    assert registry.get("someones") is registry.get("someones.net")
    assert registry.get("someones.net").backbone == "nature"


@pytest.mark.parametrize("target", ["no_colon", "no.such.module:Thing", "pretrainrl.cards:NoSuchThing"])
def test_bad_targets_are_named(target: str):
    with pytest.raises(InputError, match=target.split(":")[0]):
        import_target(target)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("import nothing_of_that_name", "ModuleNotFoundError: No module named 'nothing_of_that_name'"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("card = 'no card'", "it gives 'no card', which is no EncoderCard"),
        ("def card(): 1 / 0", "ZeroDivisionError"),
    ],
)
def test_a_broken_plugin_is_named_and_the_others_are_listed(
    content: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    name = f"broken_{abs(hash(content))}"
    package = tmp_path / f"{name}-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text(f"[pretrainrl.encoders]\nbroken.net = {name}:card\n")
    (tmp_path / f"{name}.py").write_text(content)
    monkeypatch.syspath_prepend(str(tmp_path))
    registry: Registry[EncoderCard] = Registry("encoder", EncoderCard.read, group="pretrainrl.encoders")
    with pytest.warns(UserWarning, match=f"'broken.net', the entry point {name}:card of {name}, cannot be loaded: {reason}"):
        found = registry.items()
    assert [card.name for card in found] == pretrainrl.list_encoders(include_manual=True)
    assert "broken.net" in registry.names()
    for asked in ("broken.net", "broken"):
        with pytest.raises(PluginError, match=reason):
            registry.get(asked)


def test_a_plugin_does_not_take_an_alias(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    package = tmp_path / "taking-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: taking\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("[pretrainrl.encoders]\ntaking.net = taking:card\n")
    (tmp_path / "taking.py").write_text(
        "import pretrainrl\ncard = pretrainrl.encoder_card('siammae').model_copy(update={'name': 'taking.net'})\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    registry: Registry[EncoderCard] = Registry(
        "encoder", EncoderCard.read, group="pretrainrl.encoders", alias=lambda card: card.objective if card.default else None
    )
    assert registry.get("taking.net").objective == "siammae"
    assert registry.get("siammae").name == "siammae.impala_atari8"
