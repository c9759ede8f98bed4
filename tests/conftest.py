"""What holds for all tests."""

from __future__ import annotations

from hypothesis import settings

# How long an example takes is no property of the code: benchmarks measure, and a busy machine must not fail a test.
settings.register_profile("wireloom", deadline=None, derandomize=True)
# A gate that says the same of the same code; ``--hypothesis-profile=search`` looks for what nobody has thought of.
settings.register_profile("search", deadline=None, max_examples=1000)
settings.load_profile("wireloom")
