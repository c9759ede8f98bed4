"""The data plane on Open vSwitch: OpenFlow for wires, bridges with real VLANs for segments."""
