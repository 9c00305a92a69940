"""A dataset's card as Markdown, as the Hugging Face hub shows it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from pretrainrl.dataset_cards import DATASETS, DatasetCard
from pretrainrl.integrations.minari.metadata import Summary, kind_of

# Keys that Minari keeps for itself, and facts that the card says elsewhere.
_TOLD = {
    *("dataset_id", "total_episodes", "total_steps", "data_format", "jpeg_encoding", "observation_space", "action_space"),
    *("env_spec", "dataset_size", "description", "action_meanings", "game", "algorithm_name"),
}
_LONGEST_VALUE = 300


def find_dataset_card(name: str) -> DatasetCard | None:
    """Return the card of the kind of dataset that the id `name` says, if there is one."""
    kind = kind_of(name)
    return DATASETS.get(kind) if kind in DATASETS.names() else None


def render_card(summary: Summary, remote: str | None = None) -> str:
    """Return the card of one dataset: front matter for the hub, what its kind's card says, and its own metadata.

    Args:
        summary: Summary that `check_dataset` returns.
        remote: Place from which it can be downloaded, `hf://<organization>`; None where there is none.
    """
    card, metadata = find_dataset_card(summary.id), summary.metadata
    title = f"{metadata.get('game', summary.id)}: {card.title if card else summary.id.rsplit('/', 1)[-1]}"
    parts = [_front_matter([card] if card else [], title, summary.transitions), f"# {title}"]
    parts.append(card.summary if card else str(metadata.get("description", "")))
    parts.append(_usage([summary.id], remote))
    parts.append("## What is in it\n\n" + _table(_contents(summary)))
    if card is not None:
        parts.append(_about(card))
    rest = {key: value for key, value in metadata.items() if key not in _TOLD}
    parts.append("## Metadata\n\n" + _table({f"`{key}`": _short(value) for key, value in rest.items()}))
    return "\n\n".join(parts) + "\n"


def render_index(repository: str, datasets: Mapping[str, Mapping[str, Any]], remote: str) -> str:
    """Return the front page of a repository of datasets.

    Args:
        repository: Name of the repository, the first part of the ids.
        datasets: Metadata of the datasets, by id.
        remote: Place of the repository, `hf://<organization>`.
    """
    cards = {card.name: card for card in map(find_dataset_card, datasets) if card is not None}
    title = f"{repository}: Atari datasets in Minari's format"
    steps = sum(int(metadata["total_steps"]) for metadata in datasets.values())
    lines = ["| dataset | episodes | transitions | MB |", "|---|---:|---:|---:|"]
    for name, metadata in sorted(datasets.items()):
        place = name.split("/", 1)[-1]
        counts = f"{metadata['total_episodes']:,} | {metadata['total_steps']:,} | {metadata.get('dataset_size', '')}"
        lines.append(f"| [`{name}`]({place}/README.md) | {counts} |")
    parts = [
        _front_matter(cards.values(), title, steps),
        f"# {title}",
        "Single 84x84 grey frames, stored without loss, every observation once.",
        _usage(sorted(datasets), remote),
        "\n".join(lines),
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(cards: Iterable[DatasetCard], title: str, transitions: int) -> str:
    """Return YAML as the hub expects it; the license is that of all cards, or else unknown."""
    licenses = {card.license.lower() for card in cards}
    return "\n".join(
        [
            "---",
            f"license: {licenses.pop() if len(licenses) == 1 else 'unknown'}",
            f"pretty_name: {json.dumps(title)}",
            "task_categories: [reinforcement-learning]",
            "tags: [atari, minari, offline-reinforcement-learning]",
            f"size_categories: [{_size_category(transitions)}]",
            "viewer: false",
            "---",
        ]
    )


def _size_category(transitions: int) -> str:
    """Return the hub's name for a number of rows, by powers of ten."""
    names = ["n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B", "1B<n<10B"]
    return names[min(max(len(str(transitions)) - 3, 0), len(names) - 1)]


def _usage(names: list[str], remote: str | None) -> str:
    code = f'import minari\n\ndataset = minari.load_dataset("{names[0]}")' if names else "import minari"
    download = f"```bash\nMINARI_REMOTE={remote} minari download {names[0]}\n```\n\n" if remote and names else ""
    return f"{download}```python\n{code}\n```"


def _contents(summary: Summary) -> dict[str, str]:
    metadata = summary.metadata
    ends = Counter(str(episode.get("ends_by", "unknown")) for episode in summary.episodes)
    finals = Counter(str(episode.get("final_observation", "unknown")) for episode in summary.episodes)
    returns = [float(episode["return"]) for episode in summary.episodes]
    rows = {
        "played by": str(metadata.get("algorithm_name", "unknown")),
        "transitions": f"{summary.transitions:,}",
        "episodes": f"{len(summary.episodes):,}",
        "return of an episode": f"{min(returns):g} to {max(returns):g}, mean {summary.mean_return:.2f}" if returns else "",
        "episodes end by": ", ".join(f"{key} {count:,}" for key, count in sorted(ends.items())),
        "final observations": ", ".join(f"{key} {count:,}" for key, count in sorted(finals.items())),
        "observations": "84x84 uint8, single grey frames, lossless; T + 1 in an episode of T transitions",
        "actions": ", ".join(f"{i} {meaning}" for i, meaning in enumerate(metadata.get("action_meanings", []))),
        "size": f"{summary.bytes / 1e6:.1f} MB",
    }
    for key in ("run", "checkpoint"):
        values = {str(episode[key]) for episode in summary.episodes if key in episode}
        if values:
            rows[f"{key}s"] = ", ".join(sorted(values, key=lambda value: (len(value), value)))
    return rows


def _about(card: DatasetCard) -> str:
    limits = "".join(f"- {sentence}\n" for sentence in card.limitations)
    paper = f"\n\nPaper: [{card.paper.title}]({card.paper.url})" if card.paper else ""
    return (
        f"## How it was made\n\n{card.play}\n\n```bash\n{card.command}\n```{paper}\n\n"
        f"Rewards are {'the raw score' if card.rewards == 'raw' else 'clipped to [-1, 1]'}. License: {card.license}.\n\n"
        f"## What it is not good for\n\n{limits}"
    ).rstrip()


def _table(rows: Mapping[str, str]) -> str:
    cells = (f"| {key} | {value.replace('|', chr(92) + '|')} |" for key, value in rows.items() if value)
    return "\n".join(["| | |", "|---|---|", *cells])


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]} ..."
