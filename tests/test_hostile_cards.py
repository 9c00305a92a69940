"""Cards are data: whatever a file says, nothing is run, nothing outside is read, and no folder stands in for a name.

`HOSTILE_CARDS=10000 pytest tests/test_hostile_cards.py` makes that many cards; the seed of each is its number.
"""

import os
import random
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli_w

import pretrainrl
from pretrainrl.agent_cards import AGENTS, AgentCard
from pretrainrl.benchmarking.plan import find_entrants
from pretrainrl.benchmarking.suite import SUITES, Suite, find_suite
from pretrainrl.cards import ENCODERS, OBJECTIVES, BackboneCard, Card, EncoderCard, ObjectiveCard, find_card
from pretrainrl.dataset_cards import DATASETS, RECORDINGS, DatasetCard, RecordingCard
from pretrainrl.encoders import make_encoder
from pretrainrl.errors import CardError, InputError, PretrainRLError, UnknownNameError
from pretrainrl.pretraining.config import PretrainConfig
from pretrainrl.pretraining.trained import FILE, load_objective
from pretrainrl.runs.folder import CONFIG

COUNT = int(os.environ.get("HOSTILE_CARDS", "150"))
CODE = (
    "os:system",
    "canary:Canary",
    "subprocess:run",
    "builtins:exec",
    "torch.nn:Linear",
    "pretrainrl.encoders.nature:Nature",
)
TEXTS = (
    *CODE, *("", ".", "..", "../../x", "/etc/passwd", "bundled:../../x", "bundled:/etc/passwd", "hf://a/../../b/c@main"),
    *("~nosuch/x", "siammae", "nature", "x" * 5000, "\x00", "a\nb", "\u202e", "ünï", "[/a]", "{game.__class__}"),
    *("$(touch run)", "x/y.z"),
)  # fmt: skip
NUMBERS = (0, -1, 2**31, 2**63, 2**64, 10**400, 1e308, float("inf"), float("nan"), True)


@pytest.fixture
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder where a file appears when code runs that a card names, or a shell."""
    (tmp_path / "canary.py").write_text(f"open({str(tmp_path / 'sang')!r}, 'w')\nclass Canary:\n    pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    ran: list[Any] = []
    for name in ("system", "popen", "execv", "posix_spawn"):
        monkeypatch.setattr(os, name, lambda *given, **more: ran.append(given))
    yield tmp_path
    assert not ran and "canary" not in sys.modules and not (tmp_path / "sang").exists() and not (tmp_path / "run").exists()


def tables() -> dict[type[Card], dict[str, Any]]:
    """One good table for each kind of card."""
    nano = PretrainConfig.of("idm", ("pretrainrl/atari/pong-random-v0",), backbone="nature")
    shipped: dict[type[Card], Card] = {
        EncoderCard: ENCODERS.get("random.nature"),
        ObjectiveCard: OBJECTIVES.get("idm"),
        AgentCard: AGENTS.get("rainbow"),
        Suite: SUITES.get("atari-smoke"),
        DatasetCard: DATASETS.get("random"),
        RecordingCard: RECORDINGS.get("boxing-mixed-v0"),
        BackboneCard: BackboneCard(name="b", target="os:system", summary="", paper=OBJECTIVES.get("idm").paper),
        PretrainConfig: nano,
    }
    return {kind: card.model_dump(mode="json", exclude_none=True) for kind, card in shipped.items()}


def spoil(value: Any, rng: random.Random, share: float) -> Any:
    """Replace a share of a table's values by hostile ones, and add options."""
    if rng.random() < share:
        deep: Any = rng.choice(TEXTS)
        for _ in range(rng.choice((1, 5, 90))):
            deep = {"a": deep} if rng.random() < 0.5 else [deep]
        return rng.choice((rng.choice(TEXTS), rng.choice(TEXTS), rng.choice(NUMBERS), deep, [], {}))
    if isinstance(value, dict):
        return {key: spoil(item, rng, share) for key, item in value.items()}
    return [spoil(item, rng, share) for item in value] if isinstance(value, list | tuple) else value


def hostile(seed: int, kinds: dict[type[Card], dict[str, Any]]) -> tuple[type[Card], str]:
    """A kind of card, and a file's text that says it is one."""
    rng = random.Random(seed)
    kinds_drawn: list[type[Card]] = [EncoderCard, EncoderCard, PretrainConfig, *kinds]
    kind = rng.choice(kinds_drawn)
    table = spoil(kinds[kind], rng, rng.choice((0.02, 0.1, 0.3)))
    table = table if isinstance(table, dict) else {"name": table}
    if kind in (EncoderCard, PretrainConfig) and rng.random() < 0.6:
        table["backbone"] = rng.choice(CODE)
        table["backbone_options"] = {rng.choice(("command", "width", "in_channels")): rng.choice(("touch run", *NUMBERS))}
    sys.set_int_max_str_digits(0)
    try:
        text = tomli_w.dumps(table)
    finally:
        sys.set_int_max_str_digits(4300)
    extra = ("", "", "", "\nwhen = 1979-05-27T07:32:00Z\n", "\nx = " + "[" * 3000 + "]" * 3000, "\nn = " + "9" * 5000, "\x00")
    return kind, rng.choice(extra) + "\n" + text


@pytest.mark.slow
def test_no_card_runs_anything(canary: Path) -> None:
    kinds, refused = tables(), 0
    safe = {name: ENCODERS.get(name) for name in ENCODERS.names()}
    folder = canary / "folder"
    folder.mkdir()
    (folder / FILE).write_bytes(b"")
    for seed in range(COUNT):
        kind, text = hostile(seed, kinds)
        for name in (EncoderCard.FILE, CONFIG):
            (folder / name).write_text(text, encoding="utf-8", errors="surrogatepass")
        for use in (
            lambda kind=kind: kind.read(folder / CONFIG),
            lambda: make_encoder(folder),
            lambda: load_objective(folder),
            lambda: find_entrants(find_suite(folder / CONFIG), baselines=False),
        ):
            try:
                use()
            except PretrainRLError as error:
                assert len(str(error)) < 20_000, seed
                refused += 1
            except BaseException as error:
                raise AssertionError(f"card {seed}: {type(error).__name__}: {error}\n{text[:2000]}") from error
    assert refused > 2 * COUNT
    assert {name: ENCODERS.get(name) for name in ENCODERS.names()} == safe


@pytest.mark.parametrize("target", CODE)
def test_files_do_not_name_code(target: str, canary: Path) -> None:
    card = {**tables()[EncoderCard], "backbone": target, "backbone_options": {"command": "touch run"}}
    (canary / EncoderCard.FILE).write_text(tomli_w.dumps(card))
    for call in (make_encoder, find_card, pretrainrl.register_encoder):
        with pytest.raises(CardError, match=r"backbone.*names code"):
            call(canary)
    config = {**tables()[PretrainConfig], "backbone": target}
    (canary / CONFIG).write_text(tomli_w.dumps(config))
    (canary / FILE).touch()
    with pytest.raises(CardError, match=r"backbone.*names code"):
        load_objective(canary)
    for kind, field in ((BackboneCard, "target"), (ObjectiveCard, "target"), (AgentCard, "algorithm")):
        (canary / "card.toml").write_text(tomli_w.dumps({**tables()[kind], field: target}))
        with pytest.raises(CardError, match=f"{field}.*names code"):
            kind.read(canary / "card.toml")
    with pytest.raises(InputError, match="names code"):
        pretrainrl.pretrain("idm", "pretrainrl/atari/pong-random-v0", backbone=target, out=canary / "out")


@pytest.mark.parametrize(
    "source", ["../x", "a/../../x", "bundled:../x", "bundled:/etc/passwd", "hf://a/b/../../c@main", "..\\x", "a\x00b"]
)
def test_sources_stay_in_their_folder(source: str) -> None:
    weights = {"sources": [source], "sha256": "0" * 64, "bytes": 1}
    with pytest.raises(CardError, match=r"leads out of its folder|cannot be printed"):
        EncoderCard.parse({**tables()[EncoderCard], "weights": weights}, "card")


@pytest.mark.parametrize(
    "change", [{"tasks": {"../x": {"agent": "bc", "preset": "short", "length": 1}}}, {"seeds": 10**9}, {"backbone": "a/../b"}]
)
def test_suites_name_no_paths(change: dict[str, Any]) -> None:
    with pytest.raises(CardError):
        Suite.parse({**tables()[Suite], **change}, "suite")


def test_encoders_of_a_suite_are_registered_names(canary: Path) -> None:
    suite = Suite.parse({**tables()[Suite], "encoders": ["./evil"]}, "suite")
    with pytest.raises(UnknownNameError, match=r"\./evil"):
        find_entrants(suite)


def test_no_folder_shadows_a_name(canary: Path) -> None:
    agents = AGENTS.names()
    for name in (*ENCODERS.names(), "siammae", "random", *OBJECTIVES.names(), *SUITES.names(), *DATASETS.names(), *agents):
        (canary / name).mkdir(exist_ok=True)
        (canary / name / "card.toml").write_text("not a card")
    for name in (*ENCODERS.names(), "siammae", "random"):
        assert find_card(name) is ENCODERS.get(name)
    assert make_encoder("random.nature").card is ENCODERS.get("random.nature")
    assert all(find_suite(name) is SUITES.get(name) for name in SUITES.names())
    with pytest.raises(CardError):
        find_card("./siammae")
    with pytest.raises(CardError):
        find_card(Path("siammae"))
    with pytest.raises(UnknownNameError, match="unknown agent 'dqn'"):  # which no command collects with
        pretrainrl.collect("pong", agent="dqn", out=canary / "out", steps=10)


def test_a_folder_is_named_with_a_separator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    ENCODERS.get("random.nature").write(tmp_path / "mine" / "card.toml")
    with pytest.raises(UnknownNameError, match=r"as \./mine"):
        make_encoder("mine")
    for name in ("./mine", "mine/", Path("mine"), str(tmp_path / "mine"), "mine/card.toml"):
        assert find_card(name) == ENCODERS.get("random.nature")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_card("~/mine") == ENCODERS.get("random.nature")


def test_registering_code_in_python_is_possible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ENCODERS, "_items", {name: ENCODERS.get(name) for name in ENCODERS.names()})
    card = ENCODERS.get("random.nature").model_copy(update={"name": "my.own", "objective": "my", "default": False})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pretrainrl.register_encoder(card.model_copy(update={"backbone": "pretrainrl.encoders.nature:Nature"}))
    assert make_encoder("my.own").backbone.feature_map_shape == (64, 7, 7)
