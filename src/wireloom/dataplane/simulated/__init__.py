"""Simulated: a data plane in memory, with faults, for tests of everything above the contract and for scale."""

from wireloom.dataplane.simulated.plane import SimulatedDataPlane, SimulatedNetwork

__all__ = ["SimulatedDataPlane", "SimulatedNetwork"]
