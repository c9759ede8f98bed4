"""Captures of frames on this host; see README.md beside this file."""

from wireloom.agent.capture.captures import Captures

__all__ = ["Captures"]
