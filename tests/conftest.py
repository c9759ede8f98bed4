"""What holds for all tests."""

from __future__ import annotations

from hypothesis import settings

# How long an example takes is no property of the code: benchmarks measure, and a busy machine must not fail a test.
settings.register_profile("wireloom", deadline=None)
settings.load_profile("wireloom")
