"""Episodes whose frames are compressed already, as they lie in a dataset's HDF5 file."""

from __future__ import annotations

import hashlib
import itertools
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pretrainrl.data.episode import FRAME_SHAPE, Episode
from pretrainrl.errors import DatasetError
from pretrainrl.paths import atomic_path

CHUNK_ROWS = 64  # frames that are compressed together, along time: some 230 bytes a frame
GZIP_LEVEL = 6
_ARRAYS = ("actions", "rewards", "terminations", "truncations")


@dataclass(frozen=True, eq=False)
class PackedEpisode:
    """An `Episode` with its frames compressed in chunks of 64, the last one filled up with zeros.

    Attributes:
        chunks: Compressed chunks, as HDF5's gzip filter makes them.
        actions, rewards, terminations, truncations, game, infos, metadata: Those of the `Episode`.
        sha256: Digest of the frames, actions, rewards and ends, 32 bytes.
    """

    chunks: list[bytes]
    actions: npt.NDArray[np.int64]
    rewards: npt.NDArray[np.float32]
    terminations: npt.NDArray[np.bool_]
    truncations: npt.NDArray[np.bool_]
    game: str
    infos: dict[str, npt.NDArray[Any]]
    metadata: dict[str, Any]
    sha256: bytes

    def __len__(self) -> int:
        """Transitions, T."""
        return len(self.actions)

    @classmethod
    def of(cls, episode: Episode) -> PackedEpisode:
        """Compress an episode's frames."""
        arrays = {name: getattr(episode, name) for name in _ARRAYS}
        return cls(
            chunks=_pack(episode.frames),
            **arrays,
            game=episode.game,
            infos=episode.infos,
            metadata=episode.metadata,
            sha256=_sha256(episode.frames, arrays.values()),
        )

    def write(self, path: Path) -> None:
        """Write all but `game` and `metadata` to the file `path`, whole or not at all."""
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez(
                file,
                chunks=np.frombuffer(b"".join(self.chunks), np.uint8),
                sizes=np.array([len(chunk) for chunk in self.chunks]),
                sha256=np.frombuffer(self.sha256, np.uint8),
                **{name: getattr(self, name) for name in _ARRAYS},
                **{f"infos.{name}": array for name, array in self.infos.items()},  # type: ignore[arg-type]
            )

    @classmethod
    def read(cls, path: Path, game: str, metadata: dict[str, Any]) -> PackedEpisode:
        """Read what `write` wrote.

        Raises:
            DatasetError: The file is damaged.
        """
        try:
            with np.load(path) as file:
                content, bounds = file["chunks"].tobytes(), np.cumsum([0, *file["sizes"]]).tolist()
                infos = {name.removeprefix("infos."): file[name] for name in file.files if name.startswith("infos.")}
                return cls(
                    chunks=[content[start:end] for start, end in itertools.pairwise(bounds)],
                    **{name: file[name] for name in _ARRAYS},
                    game=game,
                    infos=infos,
                    metadata=metadata,
                    sha256=file["sha256"].tobytes(),
                )
        except OSError as error:
            raise DatasetError(f"cannot read {path}: {error.strerror or error}") from error
        except (ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise DatasetError(f"{path} is damaged ({error}); delete {path.parent}") from error


def content_sha256(digests: Iterable[bytes]) -> str:
    """Return the fingerprint of a dataset: 64 hex digits over its episodes' digests in their order."""
    return hashlib.sha256(b"".join(digests)).hexdigest()


def _pack(frames: npt.NDArray[np.uint8]) -> list[bytes]:
    rows = min(CHUNK_ROWS, len(frames))
    missing = -len(frames) % rows
    padded = np.concatenate([frames, np.zeros((missing, *FRAME_SHAPE), np.uint8)]) if missing else frames
    return [
        zlib.compress(np.ascontiguousarray(padded[start : start + rows]).data, GZIP_LEVEL)
        for start in range(0, len(padded), rows)
    ]


def _sha256(frames: npt.NDArray[np.uint8], arrays: Iterable[npt.NDArray[Any]]) -> bytes:
    digest = hashlib.sha256(len(frames).to_bytes(8, "little"))
    for array in (frames, *arrays):
        digest.update(np.ascontiguousarray(array).data)
    return digest.digest()
