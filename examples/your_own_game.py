"""From a game of your own to a trained agent: Gymnasium's wrappers, a frozen encoder, PPO.

1. `Catch` is the game: a ball falls, a paddle catches it or does not. Its observations are color images of 120x160 pixels.
2. Gymnasium's wrappers turn each image gray, resize it to 84x84 and stack the last four.
3. `VecEncodeObservation` encodes each stack once, when it is made, and the agent learns from the features.

    python examples/your_own_game.py            # a few minutes on a CPU
    python examples/your_own_game.py --fast     # seconds, to see it run
"""

import argparse

# --8<-- [start:imports]
import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import FrameStackObservation, GrayscaleObservation, ResizeObservation
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

from pretrainrl.integrations.sb3 import VecEncodeObservation, neck_policy_kwargs

# --8<-- [end:imports]


# --8<-- [start:game]
class Catch(gymnasium.Env):
    """A ball falls from the top; move the paddle to where it lands. The reward is 1 for a catch and -1 for a miss."""

    observation_space = spaces.Box(0, 255, (120, 160, 3), np.uint8)
    action_space = spaces.Discrete(3)  # left, stay, right

    def reset(self, *, seed=None, options=None):
        """Drop a ball, and put the paddle somewhere."""
        super().reset(seed=seed)
        self.ball = np.array([8, self.np_random.integers(8, 152)])  # row and column, in pixels
        self.paddle = int(self.np_random.integers(20, 140))
        return self._draw(), {}

    def step(self, action):
        """Move the paddle by 8 pixels, and let the ball fall by 6."""
        self.paddle = int(np.clip(self.paddle + 8 * (action - 1), 12, 148))
        self.ball[0] += 6
        landed = self.ball[0] >= 110
        reward = (1.0 if abs(self.ball[1] - self.paddle) <= 16 else -1.0) if landed else 0.0
        return self._draw(), reward, bool(landed), False, {}

    def _draw(self):
        image = np.full((120, 160, 3), (20, 20, 60), np.uint8)
        row, column = self.ball
        image[row - 4 : row + 4, column - 4 : column + 4] = (250, 220, 90)
        image[112:118, self.paddle - 12 : self.paddle + 12] = (230, 80, 80)
        return image


# --8<-- [end:game]


# --8<-- [start:wrap]
def make_game():
    """Give the game the observations that the encoders read: four gray frames of 84x84 pixels, the newest last."""
    game = GrayscaleObservation(Catch())
    game = ResizeObservation(game, (84, 84))
    return FrameStackObservation(game, 4, padding_type="zero")


# --8<-- [end:wrap]


parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--encoder", default="siammae", help="a name of `pretrainrl encoders`, or a run folder")
parser.add_argument("--steps", type=int, default=20_480)
parser.add_argument("--fast", action="store_true", help="toy size")
args = parser.parse_args()
if args.fast:
    args.steps = 1024
EPISODES = 8 if args.fast else 100

# --8<-- [start:train]
games = make_vec_env(make_game, n_envs=8, seed=0)
env = VecEncodeObservation(games, args.encoder)
print(f"the game shows {games.observation_space.shape}, the agent sees {env.observation_space}")

agent = PPO("MlpPolicy", env, n_steps=128, batch_size=128, n_epochs=4, policy_kwargs=neck_policy_kwargs(), seed=0)
before, _ = evaluate_policy(agent, env, n_eval_episodes=EPISODES)
agent.learn(args.steps)
after, _ = evaluate_policy(agent, env, n_eval_episodes=EPISODES)
print(f"mean reward before {before:.2f}, after {after:.2f}")
# --8<-- [end:train]

# --8<-- [start:load]
agent.save("catch")
agent = PPO.load("catch", env=env)
# --8<-- [end:load]
again, _ = evaluate_policy(agent, env, n_eval_episodes=EPISODES)
print(f"loaded again, mean reward {again:.2f}")
