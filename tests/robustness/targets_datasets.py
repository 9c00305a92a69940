"""Local Minari datasets, native ones of others among them, and recordings."""

import lzma
import shutil
from pathlib import Path
from random import Random

from dqn_shards import numbered
from mutate import damage, hostile_json
from native_sets import make_native
from targets_sources import LENGTHS, craft, fork_readers, meaning, one_of
from trials import CHANGED, SAME, Fault, Target, Trial, mutated

from pretrainrl.data.emulator import Emulator
from pretrainrl.data.recording import MAGIC, Recording, replay
from pretrainrl.data.sources import find_sources
from pretrainrl.games import silence_emulator
from pretrainrl.integrations.minari import collect_dataset, open_dataset, write_dataset, write_recording
from pretrainrl.integrations.minari.card import render_card
from pretrainrl.integrations.minari.metadata import check_dataset, local_ids
from pretrainrl.paths import environment_variables

OWN, PLAYED, NATIVE = "pretrainrl/atari/pong-mine-v0", "pretrainrl/atari/pong-random-v0", "atari/pong/native-v0"
MAIN, METADATA = "data/main_data.hdf5", "data/metadata.json"
ARRAYS = ("observations", "actions", "rewards", "terminations", "truncations")


def prepare_datasets(folder: Path) -> None:
    """Write a set of this package's and a native one."""
    (folder / "sets").mkdir()
    with environment_variables(MINARI_DATASETS_PATH=str(folder / "sets")):
        write_dataset(OWN, numbered(LENGTHS))
        make_native(NATIVE, steps=3, jpeg=False)
    (folder / "secret.bin").write_bytes(bytes(300_000))
    shutil.copy(folder / "sets" / OWN / MAIN, folder / "secret.h5")


def read_own() -> list[str]:
    """Read the set as `pretrain` and `datasets card` do."""
    local_ids()
    render_card(check_dataset(OWN))
    dataset = open_dataset(OWN)
    assert dataset.fingerprint
    return meaning(dataset)


def read_native() -> list[str]:
    """Read the native set as `import minari` does."""
    [source] = find_sources("minari", [NATIVE])
    source.check()
    found = meaning(source.episodes())
    source.metadata()
    return found


def start_datasets(folder: Path) -> Trial:
    """Files of a set are damaged; its metadata become hostile; its arrays are exchanged."""
    fork_readers()
    readers = {OWN: read_own, NATIVE: read_native}
    with environment_variables(MINARI_DATASETS_PATH=str(folder / "sets")):
        whole = {name: reader() for name, reader in readers.items()}

    def trial(rng: Random, scratch: Path) -> str:
        name, outside = rng.choice((OWN, OWN, NATIVE)), None
        place = mutated(scratch, folder / "sets") / name
        draw = rng.random()
        if draw < 0.4:
            path = one_of(rng, place)
            path.write_bytes(damage(rng, path.read_bytes()))
        elif draw < 0.6:
            path = place / METADATA
            path.write_text(hostile_json(rng, path.read_text()), errors="replace")
        else:
            outside = craft(rng, place / MAIN, f"episode_{rng.randrange(2)}/{rng.choice(ARRAYS)}", folder)
        found = readers[name]()
        if outside and found != whole[name]:
            raise Fault("ran code", f"{outside}: another file was read through an HDF5 file")
        return SAME if found == whole[name] else CHANGED

    return trial


def prepare_recordings(folder: Path) -> None:
    """Play a little, and record it."""
    silence_emulator()
    with environment_variables(MINARI_DATASETS_PATH=str(folder / "sets"), PRETRAINRL_HOME=str(folder / "home")):
        (folder / "sets").mkdir()
        collect_dataset("pong", 60, n_envs=2, ram=True)
        write_recording(PLAYED, folder / "play.rec")


def start_recordings(folder: Path) -> Trial:
    """Recordings are damaged, or what is in them before it is packed; those that are accepted are played."""
    silence_emulator()
    whole = (folder / "play.rec").read_bytes()
    original = Recording.read(folder / "play.rec")
    emulator = Emulator(original.check_game())
    start = len(MAGIC) + 1
    inner = lzma.decompress(whole[start:])
    size = int.from_bytes(inner[:4], "little")
    header, steps = inner[4 : 4 + size].decode(), inner[4 + size :]

    def trial(rng: Random, scratch: Path) -> str:
        path, inside = scratch / "play.rec", rng.random() < 0.6
        if inside:
            text = hostile_json(rng, header).encode() if rng.random() < 0.7 else header.encode()
            played = damage(rng, steps) if rng.random() < 0.3 else steps
            path.write_bytes(whole[:start] + lzma.compress(len(text).to_bytes(4, "little") + text + played, lzma.FORMAT_XZ))
        else:
            path.write_bytes(damage(rng, whole))
        found = Recording.read(path)
        found.check_game()
        found.check_steps(emulator.num_actions)
        for episode in found.episodes:
            replay(emulator, found.game, episode)
        same = _all(found) == _all(original)
        if not same and not inside:
            raise Fault("damage accepted", "a recording with another content passed its CRC-64")
        return SAME if same else CHANGED

    return trial


def _all(recording: Recording) -> str:
    episodes = [(each.actions.tolist(), each.delays.tolist(), each.metadata) for each in recording.episodes]
    return str({**vars(recording), "episodes": episodes})


DATASETS = Target("datasets", prepare_datasets, start_datasets, seconds=90)
RECORDINGS = Target("recordings", prepare_recordings, start_recordings)
