"""Simulated: a scriptable world in memory, for tests of everything above the provider contract and for scale."""

from wireloom.providers.simulated.provider import SimulatedProvider
from wireloom.providers.simulated.settings import SimulatedSettings
from wireloom.providers.simulated.world import SimulatedRuntime, SimulatedWorld

__all__ = ["SimulatedProvider", "SimulatedRuntime", "SimulatedSettings", "SimulatedWorld"]
