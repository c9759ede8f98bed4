"""The capturing process: it reads frames from devices of the host and writes them as pcapng to its standard output.

A process of its own for each capture, so that a busy one costs the agent nothing, and with nothing loaded beyond the
standard library, so that it is there quickly and small. The agent starts it as ``python -m wireloom.sniffer`` and
talks to it on its standard input; see :mod:`wireloom.sniffer.order`.

Why not dumpcap: it cannot tell frames that come in from those that go out, so on a wire each frame would be there
twice. The filter word ``inbound`` does not help: libpcap applies a fresh filter to its first block of frames by itself,
where it cannot know the direction, and so loses them.
"""
