"""What a frame takes on the disk: published, cached, and as Minari stores it by default, all from the same episodes.

Half of them are of a player that acts at random, half of one that mostly repeats its last action, which moves more.
Real agents' frames differ more from one to the next than both: compressed sizes of their logs are up to three times
these, sizes of single frames (raw, JPEG) are not.
"""

from __future__ import annotations

import os
import shutil
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import minari
import numpy as np
from minari.data_collector import EpisodeBuffer
from support.frames import GAMES, default_folder
from support.report import parser, report

from pretrainrl.data import Episode, FrameCache, collect_episodes
from pretrainrl.games import find_game
from pretrainrl.integrations.minari import write_dataset

TRANSITIONS = 10_000_000  # what the costs are extrapolated to: the paper's


def published(episodes: list[Episode], folder: Path) -> Path:
    """As `pretrainrl collect` does."""
    for slug in sorted({episode.game for episode in episodes}):
        of_game = [episode for episode in episodes if episode.game == slug]
        write_dataset(f"bench/ours/{slug}-sample-v0", of_game, algorithm="sample")
    return folder / "bench" / "ours"


def by_minari(episodes: list[Episode], folder: Path, *, kind: str, jpeg: bool) -> Path:
    """As Minari's own writer does."""
    for slug in sorted({episode.game for episode in episodes}):
        buffers = [
            EpisodeBuffer(
                observations=episode.frames,
                actions=episode.actions,
                rewards=episode.rewards.astype(np.float64),
                terminations=episode.terminations,
                truncations=episode.truncations,
            )
            for episode in episodes
            if episode.game == slug
        ]
        ours = minari.load_dataset(f"bench/ours/{slug}-sample-v0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            minari.create_dataset_from_buffers(
                f"bench/{kind}/{slug}-sample-v0",
                buffers,
                observation_space=ours.observation_space,
                action_space=ours.action_space,
                env=ours.env_spec,
                jpeg_encoding=jpeg,
            )
    return folder / "bench" / kind


def cached(episodes: list[Episode], folder: Path, *, codec: str) -> Path:
    """As `pretrain` does before it starts."""
    return FrameCache.build(episodes, folder / codec, codec=codec).folder  # type: ignore[arg-type]


def size(folder: Path) -> int:
    """Bytes of all files."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--steps", type=int, default=2000, help="transitions of each game and player")
    arguments.add_argument("--games", type=int, default=8, help=f"at most {len(GAMES)}")
    arguments.add_argument("--folder", type=Path, default=default_folder(), help="written to and cleared")
    args = arguments.parse_args()

    folder = args.folder / "published-size"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    os.environ["MINARI_DATASETS_PATH"] = str(folder)
    players = (0.0, 0.75)
    games = [find_game(game).slug for game in GAMES[: args.games]]
    episodes = [
        episode
        for game in games
        for repeat in players
        for episode in collect_episodes(game, args.steps, n_envs=2, repeat_probability=repeat)
    ]
    frames = sum(len(episode.frames) for episode in episodes)
    ways: dict[str, tuple[Callable[[], Path], str, str]] = {
        "published (gzip along time)": (lambda: published(episodes, folder), "yes", "at most 400"),
        "Minari's default (JPEG)": (lambda: by_minari(episodes, folder, kind="jpeg", jpeg=True), "**no**", ""),
        "Minari, `jpeg_encoding=False`": (lambda: by_minari(episodes, folder, kind="plain", jpeg=False), "yes", ""),
        "frame cache, lz4": (lambda: cached(episodes, folder, codec="lz4"), "yes", "at most 450"),
        "frame cache, raw": (lambda: cached(episodes, folder, codec="raw"), "yes", ""),
    }
    rows = [["stored as", "bytes a frame", "target", "lossless", "10 M transitions", "times three", "frames/s written"]]
    for name, (write, lossless, target) in ways.items():
        began = time.perf_counter()
        each = size(write()) / frames
        speed = frames / (time.perf_counter() - began)
        total = each * TRANSITIONS / 1e9
        thrice = f"{3 * total:.0f} GB" if each < 1000 else ""
        rows.append([name, f"{each:.0f}", target, lossless, f"{total:.1f} GB", thrice, f"{speed:,.0f}"])
    remark = f"All files counted: {frames:,} frames, {len(episodes)} episodes of {len(games)} games."
    report("published_size", rows, remark, write=args.write)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
