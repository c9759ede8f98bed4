"""What segments need beside the data plane: for those of kind ``nat`` a way out, with DHCP and DNS."""

from wireloom.agent.segments.nat import NatSegments, SegmentServices

__all__ = ["NatSegments", "SegmentServices"]
