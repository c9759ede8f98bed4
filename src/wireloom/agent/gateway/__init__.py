"""What makes the host a way out for a network of nodes: rules of its firewall, routing, DHCP and DNS.

The management network and segments of kind ``nat`` are made of it.
"""
