"""A host's part of the image library: what it has is what the controller and the host's own rules want."""

from wireloom.agent.library.decide import Rules
from wireloom.agent.library.keeper import ImageKeeper
from wireloom.agent.library.way import ControllerWay

__all__ = ["ControllerWay", "ImageKeeper", "Rules"]
