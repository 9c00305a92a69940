"""Recordings in others' formats become Minari datasets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import minari

from pretrainrl.data.episode import Episode
from pretrainrl.data.sources import Source
from pretrainrl.errors import DatasetError, InputError
from pretrainrl.integrations.minari.metadata import check_dataset, dataset_id
from pretrainrl.integrations.minari.write import is_written, write_dataset
from pretrainrl.paths import absolute_folders
from pretrainrl.progress import progress_bar
from pretrainrl.runs.folder import require_same
from pretrainrl.runs.interrupt import InterruptedRunError, stop_requests


@absolute_folders()
def import_source(
    sources: Source | Sequence[Source],
    *,
    kind: str | None = None,
    version: int = 0,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = False,
    report: Callable[[Source, minari.MinariDataset, bool], None] | None = None,
) -> list[minari.MinariDataset]:
    """Write each source as the Minari dataset `pretrainrl/atari/<game>-<kind>-v<version>`, wholly or not at all.

    All sources are checked before the first one is read, so that nothing is read for hours before the last one turns out to be
    damaged.

    Args:
        sources: One source or several, from `pretrainrl.data.sources.find_sources`.
        kind: Kind in the ids; by default that of each source.
        version: Version in the ids, at least 0.
        resume: Whether datasets that are here already, imported with the same selection from the same files, are left as they
            are. Where a source is verified and they are not, they are read again and replaced.
        overwrite: Whether datasets of the same ids are replaced.
        progress: Whether a progress bar is shown.
        report: Function that is called after each dataset with its source, the dataset, and whether it was written now.

    Returns:
        The datasets, in the order of the sources.

    Raises:
        InputError: Two sources would have the same id, or `kind` and `version` make none.
        DatasetError: A dataset is here already, with `resume` one that was made otherwise; or a source is damaged.
        InterruptedRunError: SIGINT or SIGTERM came; the datasets that are complete stay.
    """
    wanted = _by_name([sources] if isinstance(sources, Source) else sources, kind, version)
    there = {name for name, source in wanted.items() if not overwrite and _is_there(name, source, resume)}
    todo = {name: source for name, source in wanted.items() if name not in there}
    for source in todo.values():
        source.check()
    complete, datasets = len(there), []
    with stop_requests() as stop, progress_bar(disable=not progress) as bar:
        task = bar.add_task("", total=sum(source.transitions for source in todo.values()), note="transitions")

        def advance(episode: Episode) -> None:
            bar.advance(task, len(episode))
            if stop.is_set():
                raise InterruptedRunError(
                    f"interrupted; {complete} of {len(wanted)} datasets are complete, of the one under way nothing is kept; "
                    "go on with the same command and --resume"
                )

        for name, source in wanted.items():
            bar.update(task, description=name.rsplit("/", 1)[-1])
            datasets.append(_write(name, source, overwrite or resume, advance) if name in todo else minari.load_dataset(name))
            complete += name in todo
            if report is not None:
                report(source, datasets[-1], name in todo)
    return datasets


def _is_there(name: str, source: Source, resume: bool) -> bool:
    """Whether the dataset `name` has been made of this very source, and verified if that is wanted.

    Raises:
        DatasetError: It is here and `resume` is not set, it was made of something else, or it is damaged.
    """
    if not is_written(name, "selection", source.selection, resume=resume):
        return False
    facts = check_dataset(name).metadata
    files = {"digest of the files": source.digest()}, {"digest of the files": facts.get("source_digest")}
    require_same(*files, name, "choose another --version", DatasetError)
    return not source.verify or facts.get("checksums_verified") is True


def _by_name(sources: Sequence[Source], kind: str | None, version: int) -> dict[str, Source]:
    names = [dataset_id(source.game, kind or source.kind, version) for source in sources]
    if len(set(names)) < len(names):
        raise InputError(f"several would be {max(names, key=names.count)}; import them one by one, with another version")
    return dict(zip(names, sources, strict=True))


def _write(name: str, source: Source, overwrite: bool, advance: Callable[[Episode], None]) -> minari.MinariDataset:
    def metadata() -> dict[str, Any]:  # asked for once the episodes have been read
        return {**source.metadata(), "selection": dict(source.selection), "source_digest": source.digest()}

    def episodes() -> Iterator[Episode]:
        for episode in source.episodes():
            yield episode
            advance(episode)

    return write_dataset(
        name,
        episodes(),
        sticky_actions=source.sticky_actions,
        algorithm=source.algorithm,
        author=source.author,
        metadata=metadata,
        preprocessing=source.preprocessing,
        overwrite=overwrite,
    )
