"""Data planes on a kernel that has everything: netem, VLANs, Q-in-Q, the kernel's own datapath of Open vSwitch.

The conformance suite runs inside a machine with the distribution's kernel, once for all tests here; each test shows
one of its checks. What the host's own kernel lacks is proven only here.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import guest_suite
import ovs_rig
import pytest
from dataplane_guest import Report, run_suite

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(550)]

TESTS = [
    *(f"test_data_plane[{plane}-{check}]" for plane, check in guest_suite.CASES),
    *(f"test_nothing_is_refused[{plane}]" for plane in guest_suite.PLANES),
    *(f"test_hidden_wires_to_other_hosts[tunnels-{plane}]" for plane in guest_suite.PLANES),
    *(f"test_wires_to_other_hosts[tunnels-{check}]" for check in sorted(guest_suite.OF_ITS_TUNNELS)),
]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    suite, rig = (Path(str(module.__file__)) for module in (guest_suite, ovs_rig))
    return asyncio.run(run_suite(suite, tmp_path_factory.mktemp("guest"), [rig]))


@pytest.mark.parametrize("test", TESTS)
def test_in_a_guest_with_its_own_kernel(report: Report, test: str) -> None:
    assert test in report.outcomes, f"it did not run:\n{report.console[-4000:]}"
    assert not report.outcomes[test], report.outcomes[test]


def test_nothing_else_ran_in_the_guest(report: Report) -> None:
    """A check that is renamed inside is not forgotten here."""
    assert set(report.outcomes) == set(TESTS)
