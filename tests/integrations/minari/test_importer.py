"""Any source becomes a dataset, also one in a format that the package does not know."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dqn_shards import numbered

from pretrainrl.data.episode import Episode
from pretrainrl.data.sources import FORMATS, Source, find_sources
from pretrainrl.errors import DatasetError, InputError, UnknownNameError
from pretrainrl.integrations.minari import import_source, local_ids, open_dataset

NAME = "pretrainrl/atari/pong-mine-v0"


@dataclass(kw_only=True, eq=False)
class OwnSource(Source):
    """A format of somebody's own."""

    lengths: list[int]
    is_checked: bool = False

    def check(self) -> None:
        self.is_checked = True

    def episodes(self) -> Iterator[Episode]:
        yield from numbered(self.lengths)

    def metadata(self) -> dict[str, Any]:
        return {"source": "a drawer"}


def own(*lengths: int, **facts: Any) -> OwnSource:
    return OwnSource(
        game="pong",
        kind="mine",
        content="a drawer",
        transitions=sum(lengths),
        selection={"lengths": list(lengths)},
        algorithm="nobody",
        author="somebody",
        preprocessing={"reward_clipping": "none"},
        lengths=list(lengths),
        **facts,
    )


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    return tmp_path / "datasets"


def test_a_format_of_ones_own() -> None:
    source = own(5, 7, sticky_actions=0.0)
    reports: list[tuple[Source, str, bool]] = []
    [made] = import_source(source, report=lambda source, dataset, is_new: reports.append((source, dataset.id, is_new)))
    assert source.is_checked and reports == [(source, NAME, True)]
    dataset = open_dataset(made.id)
    for episode, original in zip(dataset, numbered([5, 7]), strict=True):
        assert np.array_equal(episode.frames, original.frames)
    facts = dataset.metadata
    assert (facts["source"], facts["selection"], facts["algorithm_name"]) == ("a drawer", {"lengths": [5, 7]}, "nobody")
    assert (facts["sticky_actions"], facts["preprocessing"]) == (0.0, {"reward_clipping": "none"})


def test_what_is_there_is_kept_replaced_or_refused() -> None:
    import_source(own(5))
    with pytest.raises(DatasetError, match=f"{NAME} exists at"):
        import_source(own(5))
    with pytest.raises(DatasetError, match=r"lengths was \[5\] and is now \[6\]; choose another --version"):
        import_source(own(6), resume=True)
    reports: list[bool] = []
    kept, written = import_source([own(5)], resume=True), import_source(own(6), overwrite=True)
    import_source(own(6), resume=True, report=lambda *facts: reports.append(facts[-1]))
    assert (kept[0].total_steps, written[0].total_steps, reports) == (5, 6, [False])


def test_two_of_one_id_are_refused_before_either_is_read() -> None:
    with pytest.raises(InputError, match=f"several would be {NAME}"):
        import_source([own(5), own(6)])
    assert local_ids() == []


def test_an_unknown_format_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="unknown format 'dqn_replay'; did you mean 'dqn-replay'"):
        find_sources("dqn_replay", "nowhere", ["pong"])


@pytest.mark.parametrize("format", sorted(set(FORMATS) - {"minari"}))
def test_all_formats_take_the_same_arguments(format: str, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'pong'"):
        find_sources(format, tmp_path, ["pnog"], runs=[1], checkpoints=[1], steps=5)
    with pytest.raises(DatasetError, match="missing"):
        find_sources(format, str(tmp_path), ["pong"], runs=[1], checkpoints=[1], steps=5)
