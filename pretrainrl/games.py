"""Atari games, and the three ways in which their names are spelled."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pretrainrl.errors import UnknownNameError

# Names of ALE's actions in the order of its full set.
ALL_ACTIONS = (
    *("NOOP", "FIRE", "UP", "RIGHT", "LEFT", "DOWN", "UPRIGHT", "UPLEFT", "DOWNRIGHT", "DOWNLEFT", "UPFIRE", "RIGHTFIRE"),
    *("LEFTFIRE", "DOWNFIRE", "UPRIGHTFIRE", "UPLEFTFIRE", "DOWNRIGHTFIRE", "DOWNLEFTFIRE"),
)


@dataclass(frozen=True)
class Scores:
    """What a game's scores are measured against.

    Attributes:
        random: Mean score of random play.
        reference: Mean score of the reference agent.
        agent: Reference agent: `dqn_50m` or `rainbow_2m`, after so many steps.
        human: Mean score of a human player; None where nobody measured it.
        split: Split of Atari-PB that the game is in: `id`, `near_ood` or `far_ood`. Nothing is chosen on the last two.
    """

    random: float
    reference: float
    agent: str
    human: float | None
    split: str

    def normalize(self, score: float) -> float | None:
        """Return where `score` lies between 0, random play, and 1, the reference; None where the reference is no better."""
        span = self.reference - self.random
        return (score - self.random) / span if span > 0 else None


@dataclass(frozen=True)
class Game:
    """One Atari game.

    Attributes:
        rom: ALE's name, e.g. `ms_pacman`.
        slug: Farama's one lower-case word, used in dataset ids, e.g. `mspacman`.
        env_id: Gymnasium's id, e.g. `ALE/MsPacman-v5`.
    """

    rom: str
    slug: str
    env_id: str

    @property
    def rom_md5(self) -> str:
        """MD5 of the ROM image that ale-py ships, as 32 hex digits."""
        import hashlib

        return hashlib.md5(self.rom_path.read_bytes()).hexdigest()

    @property
    def minimal_actions(self) -> tuple[int, ...]:
        """Actions that do something in this game, as numbers of ALE's full set of 18, in the order of action spaces.

        Datasets count actions in this order.
        """
        return all_minimal_actions()[self.slug]

    @property
    def action_meanings(self) -> list[str]:
        """Names of the minimal actions in the same order, e.g. `["NOOP", "FIRE", "RIGHT", ...]`."""
        return [ALL_ACTIONS[action] for action in self.minimal_actions]

    @property
    def rom_path(self) -> Path:
        """File of the ROM image that ale-py ships."""
        from ale_py import roms

        path = roms.get_rom_path(self.rom)
        if path is None:
            raise UnknownNameError.of("ROM", self.rom, roms.get_all_rom_ids())
        return path


def silence_emulator() -> None:
    """Keep ALE's banner off the terminal, for the whole process: for the command line and worker processes to call."""
    import ale_py

    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)


@cache
def all_scores() -> dict[str, Scores]:
    """Return the scores of the 65 games of Atari-PB, by slug."""
    import csv

    from pretrainrl.paths import registry_folder

    with (registry_folder() / "atari_scores.csv").open(newline="") as file:
        return {
            row["game"].replace("_", ""): Scores(
                float(row["random"]),
                float(row["reference"]),
                row["reference_agent"],
                float(row["human"]) if row["human"] else None,
                row["split"],
            )
            for row in csv.DictReader(file)
        }


@cache
def all_minimal_actions() -> dict[str, tuple[int, ...]]:
    """Return the minimal action set of every game, by slug, as ALE has it; to ask ALE takes half a second for each game."""
    import csv

    from pretrainrl.paths import registry_folder

    with (registry_folder() / "atari_actions.csv").open(newline="") as file:
        return {row["game"]: tuple(map(int, row["actions"].split())) for row in csv.DictReader(file)}


# ROMs of games for two: ALE does not know how to play them and ends the whole process when it is given one.
UNPLAYABLE = {"combat", "joust", "maze_craze", "warlords"}


@cache
def all_games() -> dict[str, Game]:
    """Return every game whose ROM comes with ale-py and that one player can play, by slug."""
    from ale_py import roms

    games = {}
    for rom in sorted(set(roms.get_all_rom_ids()) - UNPLAYABLE):
        camel = "".join(part.capitalize() for part in rom.split("_"))
        # Gymnasium spells this one with a capital D.
        env_id = f"ALE/{'TicTacToe3D' if rom == 'tic_tac_toe_3d' else camel}-v5"
        slug = rom.replace("_", "")
        if slug in all_minimal_actions():
            games[slug] = Game(rom, slug, env_id)
    return games


def find_game(name: str) -> Game:
    """Find a game by any spelling: `ms_pacman`, `mspacman`, `MsPacman`, `ALE/MsPacman-v5`, `MsPacmanNoFrameskip-v4`.

    Raises:
        UnknownNameError: When there is no such game; the message gives the nearest names.
    """
    slug, games = slug_of(name), all_games()
    if slug not in games:
        raise UnknownNameError.of("game", slug, games)
    return games[slug]


def slug_of(name: str) -> str:
    """Return the slug of a game by any spelling of its name, whether there is such a game or not."""
    word = name.rsplit("/", 1)[-1].split("-v")[0].removesuffix("NoFrameskip")
    return word.replace("_", "").replace("-", "").lower()
