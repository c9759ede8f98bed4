"""The HTTP API: translate and authorise, nothing else."""

from wireloom.api.app import create_app

__all__ = ["create_app"]
