"""Docker: one runtime is one container."""

from wireloom.providers.docker.provider import DockerProvider
from wireloom.providers.docker.settings import DockerSettings

__all__ = ["DockerProvider", "DockerSettings"]
