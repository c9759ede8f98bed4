"""Texts and rules of the management network."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wireloom.agent.gateway import firewall
from wireloom.agent.gateway.routes import clashing_routes
from wireloom.agent.management import NodeEntry, segment_name
from wireloom.agent.management.entries import entries_of, management_of
from wireloom.agent.management.hostsfile import HostsFile
from wireloom.agent.management.rendering import dnsmasq_config, with_block
from wireloom.iptables import read_rules
from wireloom.model.identity import DEVICE_NAME_LIMIT, short_hash
from wireloom.model.slice import Management, NodeIntent, PortIntent, Slice

NETWORK = Management(subnet="172.30.128.0/20", gateway="172.30.128.1")
ENTRIES = [
    NodeEntry(lab="ring", node="R2", address="172.30.128.6", mac="02:00:00:00:00:02"),
    NodeEntry(lab="ring", node="r1", address="172.30.128.5", mac="02:00:00:00:00:01"),
    NodeEntry(lab="other", node="r1", address="172.30.128.7", mac="02:00:00:00:00:03"),
]

_CONFIG = """\
# Written by wireloom; changes are lost.
user=nobody
pid-file=/run/w/dnsmasq.pid
interface=wlb0
except-interface=lo
bind-dynamic
no-hosts
domain=wl
local=/wl/
domain-needed
bogus-priv
dhcp-range=172.30.128.0,static,255.255.240.0,12h
dhcp-lease-max=65536
dhcp-option=option:router,172.30.128.1
dhcp-option=option:dns-server,172.30.128.1
dhcp-authoritative
dhcp-ignore-names
dhcp-no-override
leasefile-ro
dhcp-option=tag:OTHER,option:domain-name,other.wl
dhcp-option=tag:OTHER,option:domain-search,other.wl
dhcp-option=tag:RING,option:domain-name,ring.wl
dhcp-option=tag:RING,option:domain-search,ring.wl
dhcp-host=02:00:00:00:00:03,set:OTHER,172.30.128.7
dhcp-host=02:00:00:00:00:02,set:RING,172.30.128.6
dhcp-host=02:00:00:00:00:01,set:RING,172.30.128.5
host-record=r1.other.wl,172.30.128.7
host-record=r2.ring.wl,172.30.128.6
host-record=r1.ring.wl,172.30.128.5
"""


def test_the_configuration_of_dnsmasq_is_rendered_byte_for_byte() -> None:
    config = dnsmasq_config(NETWORK, ENTRIES, bridge="wlb0", user="nobody", folder=Path("/run/w"))
    for lab in ("ring", "other"):
        config = config.replace(f"l{short_hash(lab, length=8)}", lab.upper())
    assert config == _CONFIG


class TestHostsBlock:
    def test_a_block_is_added_replaced_and_removed(self) -> None:
        text = "127.0.0.1 localhost\n"
        once = with_block(text, "i1", ["1.1.1.1 a"])
        assert once == "127.0.0.1 localhost\n# wireloom i1 begin\n1.1.1.1 a\n# wireloom i1 end\n"
        assert with_block(once, "i1", ["2.2.2.2 b"]).count("begin") == 1
        assert with_block(once, "i1", []) == text

    def test_two_installations_keep_out_of_each_others_block(self) -> None:
        both = with_block(with_block("", "i1", ["1.1.1.1 a"]), "i2", ["2.2.2.2 b"])
        assert with_block(both, "i1", []) == "# wireloom i2 begin\n2.2.2.2 b\n# wireloom i2 end\n"

    def test_a_block_without_an_end_takes_nothing_of_others_away(self) -> None:
        assert with_block("# wireloom i1 begin\n10.0.0.1 printer\n", "i1", []) == "10.0.0.1 printer\n"

    @given(st.lists(st.sampled_from(["127.0.0.1 localhost", "", "# a comment", "::1 ip6-localhost"])), st.booleans())
    def test_what_is_not_ours_stays_byte_for_byte(self, lines: list[str], newline: bool) -> None:
        text = "\n".join(lines) + ("\n" if newline and lines else "")
        if text and not text.endswith("\n"):
            text += "\n"
        assert with_block(with_block(text, "i", ["1.1.1.1 a"]), "i", []) == text


class TestHostsFile:
    def test_it_is_replaced_as_a_whole_with_its_mode(self, tmp_path: Path) -> None:
        path = tmp_path / "hosts"
        path.write_text("127.0.0.1 localhost\n")
        path.chmod(0o640)
        before = path.stat().st_ino
        assert HostsFile(path, tmp_path / "lock").write_block("i", ["1.1.1.1 a"]) is True
        assert HostsFile(path, tmp_path / "lock").write_block("i", ["1.1.1.1 a"]) is False
        assert path.stat().st_ino != before
        assert path.stat().st_mode & 0o777 == 0o640
        assert sorted(p.name for p in tmp_path.iterdir()) == ["hosts", "lock"]

    def test_a_bind_mount_is_written_in_place(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "hosts"
        path.write_text("127.0.0.1 localhost\n")
        inode = path.stat().st_ino

        def busy(self: Path, target: Path) -> Path:
            raise OSError(errno.EBUSY, "Device or resource busy")

        monkeypatch.setattr(Path, "replace", busy)
        HostsFile(path, tmp_path / "lock").write_block("i", ["1.1.1.1 a"])
        assert "1.1.1.1 a\n" in path.read_text()
        assert path.stat().st_ino == inode
        assert sorted(p.name for p in tmp_path.iterdir()) == ["hosts", "lock"]


class TestFirewall:
    def test_rules_are_rendered(self) -> None:
        mark = firewall.installation_mark("inst")
        rendered = [f"{rule.table}: {rule.line('-I')}" for rule in firewall.way_out_rules(mark, "wlb0", NETWORK.subnet)]
        comment = rendered[0].split("--comment ")[1].split(" ")[0]
        assert comment.startswith(f"{mark}-")
        assert [line.replace(comment, "C") for line in rendered] == [
            "filter: -I FORWARD -s 172.30.128.0/20 -i wlb0 ! -o wlb0 -m comment --comment C -j ACCEPT",
            "filter: -I FORWARD -d 172.30.128.0/20 ! -i wlb0 -o wlb0 -m conntrack"
            " --ctstate RELATED,ESTABLISHED -m comment --comment C -j ACCEPT",
            "filter: -I INPUT -i wlb0 -p udp -m udp --dport 67 -m comment --comment C -j ACCEPT",
            "filter: -I INPUT -i wlb0 -p udp -m udp --dport 53 -m comment --comment C -j ACCEPT",
            "filter: -I INPUT -i wlb0 -p tcp -m tcp --dport 53 -m comment --comment C -j ACCEPT",
            "nat: -I POSTROUTING -s 172.30.128.0/20 ! -d 172.30.128.0/20 ! -o wlb0"
            " -m comment --comment C -j MASQUERADE",
            "mangle: -I POSTROUTING -o wlb0 -p udp -m udp --dport 68"
            " -m comment --comment C -j CHECKSUM --checksum-fill",
        ]

    def test_only_rules_with_our_mark_are_ours(self) -> None:
        listing = (
            "-P FORWARD DROP\n"
            "-A FORWARD -j DOCKER-USER\n"
            "-A FORWARD -i x -m comment --comment wl-aaaa-1 -j ACCEPT\n"
            '-A FORWARD -i y -m comment --comment "wl-aaaab-1" -j ACCEPT\n'
            '-A FORWARD -i z -m comment --comment "some text wl-aaaa-1" -j ACCEPT\n'
        )
        ours = [rule for rule in read_rules("filter", listing) if firewall.is_marked(rule, "wl-aaaa")]
        assert [rule.line("-D") for rule in ours] == ["-D FORWARD -i x -m comment --comment wl-aaaa-1 -j ACCEPT"]

    def test_a_fence_begins_with_its_exceptions(self) -> None:
        rules = firewall.fenced_rules("wl-aaaa", "wls0", "10.99.0.0/24", "wlb0")
        targets = [rule.value("-j") for rule in rules if rule.chain == "INPUT"]
        assert targets == ["RETURN"] * 5 + ["DROP"]
        assert {rule.table for rule in rules} == {"mangle"}


class TestClash:
    ROUTES = (
        {"dst": "default", "gateway": "192.0.2.1", "dev": "eth0"},
        {"dst": "172.17.0.0/16", "dev": "docker0"},
        {"dst": "172.30.130.7", "dev": "tun0"},
    )

    def test_an_overlap_is_named_and_a_default_route_is_none(self) -> None:
        assert clashing_routes(self.ROUTES, "172.30.128.0/20", "wlb0") == ["172.30.130.7/32 on tun0"]
        assert clashing_routes(self.ROUTES, "10.0.0.0/8", "wlb0") == []

    def test_the_own_bridge_is_no_clash(self) -> None:
        assert clashing_routes([{"dst": "172.30.128.0/20", "dev": "wlb0"}], "172.30.128.0/20", "wlb0") == []


def _slice(lab: str, *, removed: bool = False, management: Management | None = NETWORK) -> Slice:
    port = PortIntent(index=0, name="eth0", guest_name="eth0", device="wlp0", mac="02:00:00:00:00:09", role="mgmt")
    nodes = (
        NodeIntent(id="n1", name="r1", device="d", provider="p", image="i", ports=(port,), mgmt_ipv4="172.30.128.9"),
        NodeIntent(id="n2", name="r2", device="d", provider="p", image="i"),
    )
    return Slice(
        installation="i", lab_id=lab, lab=lab, generation=1, removed=removed, management=management, nodes=nodes
    )


def test_entries_are_the_nodes_with_a_management_address() -> None:
    slices = {"a": _slice("a"), "b": _slice("b", removed=True), "c": _slice("c", management=None)}
    assert entries_of(slices) == [NodeEntry(lab="a", node="r1", address="172.30.128.9", mac="02:00:00:00:00:09")]
    assert management_of(slices) == NETWORK
    assert management_of({"c": slices["c"]}) is None


def test_the_bridges_name_fits_the_kernel() -> None:
    assert len(segment_name("x" * 40)) <= DEVICE_NAME_LIMIT
