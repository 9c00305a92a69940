"""What a game shows when its recorded no-ops, actions and delays are played in ALE itself, one raw frame at a time."""

from collections.abc import Iterator

import cv2
import numpy as np
from ale_py import Action, ALEInterface, roms


def plain_ale(game: str, noops: int, actions: np.ndarray, delays: np.ndarray) -> Iterator[tuple[np.ndarray, float, bool]]:
    """What a new ALE shows, raw frame by raw frame, preprocessed as Gymnasium does it."""
    ale = ALEInterface()
    ale.setFloat("repeat_action_probability", 0.0)
    path = roms.get_rom_path(game)
    assert path
    ale.loadROM(path)
    ale.reset_game()
    codes, joystick = ale.getMinimalActionSet(), Action.NOOP
    for _ in range(noops):
        ale.act(Action.NOOP)
    yield cv2.resize(ale.getScreenGrayscale(), (84, 84), interpolation=cv2.INTER_AREA), 0.0, False
    for action, delay in zip(actions, delays, strict=True):
        points, screens = 0.0, []
        for raw_frame in range(4):
            joystick = codes[action] if raw_frame >= delay else joystick
            points += ale.act(joystick)
            screens.append(ale.getScreenGrayscale())
        newest = np.maximum(screens[2], screens[3])
        yield cv2.resize(newest, (84, 84), interpolation=cv2.INTER_AREA), points, ale.game_over()
