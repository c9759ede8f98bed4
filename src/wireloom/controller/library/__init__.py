"""The image library of an installation: its catalogue, what comes in, and which hosts have what."""
