"""The page of an agent on the hub."""

from __future__ import annotations

from pretrainrl.integrations.hub.names import DESCRIPTION
from pretrainrl.optional import require

_ABOUT = """
# {algorithm} playing {env_id}

A trained **{algorithm}** agent for **{env_id}**, made with
[Stable-Baselines3](https://github.com/DLR-RM/stable-baselines3) and pretrainrl.
"""
_SAFE = """
## Use

`{description}` and `{name}.safetensors` are the agent without any pickle. They are read by

```python
from pretrainrl.integrations.hub import load_from_hub

agent = load_from_hub("{repo_id}", env)
```
"""
_ZIP = """
`{name}.zip` is the agent as Stable-Baselines3 saves it. It holds pickles, which run code when they are loaded: only if you
trust its author.

```python
from huggingface_sb3 import load_from_hub

path = load_from_hub("{repo_id}", "{name}.zip")
```
"""


def render_card(
    repo_id: str, name: str, algorithm: str, env_id: str, score: tuple[float, float] | None, encoder: str | None, safe: bool
) -> str:
    """Write `README.md`, with the metadata that the hub and the zoo read.

    Args:
        repo_id: of the repository.
        name: of the agent's files.
        algorithm: its class, e.g. `Rainbow`.
        env_id: of its environment.
        score: mean and standard deviation of an episode's return.
        encoder: that it learned from, if any.
        safe: whether the description is there.

    Raises:
        MissingExtraError: when huggingface_hub is not installed.
    """
    hub, cards = require("huggingface_hub", "hub"), require("huggingface_hub.repocard", "hub")
    metadata = {
        "library_name": "stable-baselines3",
        "tags": [env_id, "deep-reinforcement-learning", "reinforcement-learning", "stable-baselines3", "pretrainrl"],
    }
    if score is not None:
        metadata |= cards.metadata_eval_result(
            model_pretty_name=algorithm,
            task_pretty_name="reinforcement-learning",
            task_id="reinforcement-learning",
            metrics_pretty_name="mean_reward",
            metrics_id="mean_reward",
            metrics_value=f"{score[0]:.2f} +/- {score[1]:.2f}",
            dataset_pretty_name=env_id,
            dataset_id=env_id,
        )
    on = f"\nIt learned from the frozen encoder `{encoder}`.\n" if encoder else ""
    text = (_ABOUT + on + (_SAFE if safe else "\n## Use\n") + _ZIP).format(
        algorithm=algorithm, env_id=env_id, repo_id=repo_id, name=name, description=DESCRIPTION
    )
    return f"---\n{hub.ModelCardData(**metadata).to_yaml()}\n---\n{text}"
