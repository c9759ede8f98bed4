"""What doctor makes of the data plane."""

from __future__ import annotations

from wireloom.agent.link_findings import judge_links
from wireloom.agent.probes import Level
from wireloom.model.network import DataPlaneAbilities, PathTest

PASSED = (PathTest(path="wire between containers"), PathTest(path="segment"))


def test_a_host_that_can_everything_is_well() -> None:
    (finding,) = judge_links(DataPlaneAbilities(), PASSED)
    assert finding.level is Level.OK
    assert "2 kinds of path" in finding.finding


def test_each_path_that_fails_is_a_failure_of_its_own() -> None:
    broken = PathTest(path="segment", problem="a frame did not arrive", hint="load the module bridge")
    (finding,) = judge_links(DataPlaneAbilities(), (PASSED[0], broken))
    assert (finding.name, finding.level, finding.advice) == ("segment", Level.FAIL, "load the module bridge")


def test_host_that_does_not_keep_nodes_apart_is_told_which_module_does() -> None:
    finding, apart = judge_links(DataPlaneAbilities(fence="no module cls_bpf"), PASSED)
    assert (finding.level, apart.level) == (Level.OK, Level.WARN)
    assert (apart.name, apart.finding) == ("nodes apart from the host", "no module cls_bpf")


def test_what_links_cannot_have_is_said_once_with_each_reason_once() -> None:
    reason = "this host's kernel lacks the module sch_netem"
    abilities = DataPlaneAbilities(vlans="no filtering", impairments={"delay": reason, "loss": reason})
    _, finding = judge_links(abilities, PASSED)
    assert finding.level is Level.WARN
    assert finding.finding == "no VLANs in switches, delay on links, loss on links"
    assert finding.meaning.endswith(f"refused: no filtering; {reason}")
