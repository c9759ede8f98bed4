"""The typed SDK: everything the HTTP API offers, as methods of one asynchronous :class:`Client`.

Importing it is cheap: HTTP, WebSocket and model libraries are loaded at the first call.
"""

from wireloom.client.client import Client
from wireloom.client.discovery import Endpoint, find_endpoint

__all__ = ["Client", "Endpoint", "find_endpoint"]
