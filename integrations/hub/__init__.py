"""Agents on the Hugging Face hub: pushed as others expect them, loaded without unpickling anything."""

from pretrainrl.integrations.hub.description import agent_name
from pretrainrl.integrations.hub.load import load_from_hub
from pretrainrl.integrations.hub.push import push_to_hub

__all__ = ["agent_name", "load_from_hub", "push_to_hub"]
