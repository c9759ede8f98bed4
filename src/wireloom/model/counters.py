"""How much passes through the ports of a lab: counters, and what they come to per second."""

from __future__ import annotations

from wireloom.model.base import Value
from wireloom.model.network import PortCounters

__all__ = ["CountersSample", "PortRates", "PortSample", "rates"]


class PortRates(Value):
    """Per second, since the sample before: packets, and bits of whole frames."""

    rx_packets: float = 0
    rx_bits: float = 0
    rx_dropped: float = 0
    tx_packets: float = 0
    tx_bits: float = 0
    tx_dropped: float = 0


class PortSample(Value):
    """One port, as its guest counts.

    :ivar node: the node's name; ``port``: the port's name.
    """

    node_id: str
    index: int
    node: str
    port: str
    counters: PortCounters = PortCounters()
    rates: PortRates = PortRates()


class CountersSample(Value):
    """All ports of a lab on one host at one time (UNIX seconds). Rates of the first sample are 0."""

    time: float
    ports: tuple[PortSample, ...] = ()


def rates(before: PortCounters, after: PortCounters, seconds: float) -> PortRates:
    """What passed between two readings; a counter that went back is of a port that was made anew, and counts from 0."""
    if seconds <= 0:
        return PortRates()

    def per_second(old: int, new: int) -> float:
        return round((new - old if new >= old else new) / seconds, 3)

    return PortRates(
        rx_packets=per_second(before.rx_packets, after.rx_packets),
        rx_bits=per_second(before.rx_bytes * 8, after.rx_bytes * 8),
        rx_dropped=per_second(before.rx_dropped, after.rx_dropped),
        tx_packets=per_second(before.tx_packets, after.tx_packets),
        tx_bits=per_second(before.tx_bytes * 8, after.tx_bytes * 8),
        tx_dropped=per_second(before.tx_dropped, after.tx_dropped),
    )
