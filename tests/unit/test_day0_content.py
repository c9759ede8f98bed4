"""What a day-0 method puts on its medium."""

from __future__ import annotations

import email
import io
import tarfile
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wireloom.day0 import render_day0, render_smbios, startup_text, template_values
from wireloom.day0.mime import Part, build_multipart
from wireloom.errors import InvalidInput
from wireloom.model.device import Access, Day0
from wireloom.model.slice import Management, NodeIntent, PortIntent, Slice, StoredConfig

PORTS = tuple(
    PortIntent(
        index=index, name=f"Gi0/{index}", guest_name=f"eth{index}", device=f"wl{index}", mac=f"02:00:00:00:00:0{index}"
    )
    for index in range(3)
)
NODE = NodeIntent(
    id="n-1",
    name="r1",
    device="box",
    provider="libvirt",
    image="box.qcow2",
    ports=PORTS,
    mgmt_ipv4="172.30.128.5",
    access=Access(username="admin", password="admin@123"),  # noqa: S106
)
LAB = Slice(
    installation="test",
    lab_id="l-1",
    lab="lab",
    generation=1,
    management=Management(subnet="172.30.128.0/20", gateway="172.30.128.1"),
    nodes=(NODE,),
)
KEYS = "ssh-ed25519 AAAA a\nssh-rsa BBBB b"
VALUES = template_values(LAB, NODE, KEYS)


def rendered(day0: Day0, config: str | None = None, values: dict[str, Any] | None = None) -> dict[str, bytes]:
    return render_day0(day0, values or VALUES, config=config, device="box")


def test_values_name_what_is_known_of_the_node() -> None:
    assert VALUES["mgmt_netmask"] == "255.255.240.0"
    assert VALUES["mgmt_prefix"] == "20"
    assert (VALUES["gateway"], VALUES["dns"], VALUES["domain"]) == ("172.30.128.1", "172.30.128.1", "lab.wl")
    assert [(port["name"], port["linked"]) for port in VALUES["ports"]] == [("Gi0/1", True), ("Gi0/2", True)]
    assert VALUES["authorized_keys"] == KEYS + "\n"


def test_values_of_a_node_off_the_management_network_are_empty_and_defined() -> None:
    values = template_values(LAB, NODE.model_copy(update={"mgmt_ipv4": None}))
    assert {values[name] for name in ("mgmt_ipv4", "mgmt_prefix", "mgmt_netmask", "gateway", "dns", "domain")} == {""}


def test_configuration_is_taken_as_it_is() -> None:
    config = "hostname {{ hostname }}\n! {braces} stay {% if\n"
    assert rendered(Day0(method="iso", path="frr.conf"), config) == {"frr.conf": config.encode()}


def test_configuration_ends_with_a_line_feed() -> None:
    assert rendered(Day0(method="file", path="/etc/frr/frr.conf"), "hostname r1") == {
        "/etc/frr/frr.conf": b"hostname r1\n"
    }


def test_templates_are_filled_in() -> None:
    day0 = Day0(
        method="iso",
        path="day0.cfg",
        template="hostname {{ hostname }}\n{{ config }}end\n",
        extra={"keys": "{% for key in authorized_keys | lines %}\n- {{ key }}\n{% endfor %}\n"},
    )
    assert rendered(day0, "router ospf") == {
        "day0.cfg": b"hostname r1\nrouter ospf\nend\n",
        "keys": b"- ssh-ed25519 AAAA a\n- ssh-rsa BBBB b\n",
    }
    assert rendered(day0)["day0.cfg"] == b"hostname r1\nend\n"


def test_mistakes_in_a_template_name_device_file_and_variable() -> None:
    with pytest.raises(InvalidInput, match=r"box: day0\.cfg: 'hostnam' is undefined"):
        rendered(Day0(method="iso", path="day0.cfg", template="hostname {{ hostnam }}"))


def test_no_configuration_leaves_its_file_out() -> None:
    assert rendered(Day0(method="iso", path="frr.conf")) == {}


def test_two_contents_for_one_path_are_refused() -> None:
    with pytest.raises(InvalidInput):
        rendered(Day0(method="iso", path="frr.conf", extra={"frr.conf": ""}), "x")


def test_archive_holds_the_configuration_under_its_path() -> None:
    day0 = Day0(method="fat", path="config/juniper.conf", archive="vmm-config.tgz")
    first = rendered(day0, "system { host-name r1; }")
    assert first.keys() == {"vmm-config.tgz"}
    with tarfile.open(fileobj=io.BytesIO(first["vmm-config.tgz"])) as archive:
        assert archive.getnames() == ["config", "config/juniper.conf"]
        member = archive.extractfile("config/juniper.conf")
        assert member is not None
        assert member.read() == b"system { host-name r1; }\n"


def test_nocloud_has_everything_that_makes_it_a_source() -> None:
    files = rendered(Day0(method="nocloud", path="user-data", label="cidata"))
    assert files.keys() == {"user-data", "meta-data", "network-config"}
    assert files["user-data"] == b"#cloud-config\n{}\n"
    assert files["meta-data"] == b'instance-id: "n-1"\nlocal-hostname: "r1"\n'
    assert b'macaddress: "02:00:00:00:00:00"' in files["network-config"]


def test_nocloud_leaves_out_what_the_device_made_empty_or_does_not_apply() -> None:
    day0 = Day0(method="nocloud", path="user-data", extra={"network-config": ""})
    assert rendered(day0).keys() == {"user-data", "meta-data"}
    off = template_values(LAB, NODE.model_copy(update={"mgmt_ipv4": None}))
    assert rendered(Day0(method="nocloud", path="user-data"), values=off).keys() == {"user-data", "meta-data"}


def test_configdrive_has_its_meta_data() -> None:
    day0 = Day0(method="configdrive", path="openstack/latest/user_data", extra={"openstack/content/0000": "licence"})
    files = rendered(day0, "#cloud-config\n")
    assert files.keys() == {"openstack/latest/user_data", "openstack/latest/meta_data.json", "openstack/content/0000"}
    assert files["openstack/latest/meta_data.json"] == b'{"uuid": "n-1", "hostname": "r1", "name": "r1"}\n'


def test_mime_message_has_its_parts_in_the_order_of_the_table() -> None:
    day0 = Day0(
        method="iso",
        path="ciscosdwan_cloud_init.cfg",
        extra={"vinit": "#cloud-config\nuuid: {{ node_id }}\n", "README": "not a part"},
        mime={"vinit": "text/cloud-config", "config": "text/cloud-boothook"},
    )
    files = rendered(day0, "hostname r1\n")
    assert files.keys() == {"ciscosdwan_cloud_init.cfg", "README"}
    message = email.message_from_bytes(files["ciscosdwan_cloud_init.cfg"])
    parts = [part for part in message.walk() if not part.is_multipart()]
    assert [(part.get_content_type(), part.get_filename()) for part in parts] == [
        ("text/cloud-config", "vinit"),
        ("text/cloud-boothook", "config"),
    ]
    assert [part.get_payload(decode=True) for part in parts] == [b"#cloud-config\nuuid: n-1\n", b"hostname r1\n"]
    assert files == rendered(day0, "hostname r1\n")


def test_mime_part_without_a_text_is_refused() -> None:
    with pytest.raises(InvalidInput, match="'other' of day-0 file x has no text"):
        rendered(Day0(method="iso", path="x", mime={"other": "text/plain"}))


#: What some readers of mail take for the end of a line.
OTHER_LINE_ENDS = "\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters=OTHER_LINE_ENDS)), min_size=1, max_size=4))
def test_any_text_comes_out_of_a_mime_message(texts: list[str]) -> None:
    message = build_multipart([Part(f"p{number}", "text/plain", text) for number, text in enumerate(texts)])
    found = [part.get_payload(decode=True) for part in email.message_from_bytes(message.encode()).walk()][1:]
    assert found == [text.encode() for text in texts]


@pytest.mark.parametrize("name", ['a"b', "a\nb", ""])
def test_mime_names_cannot_break_out_of_their_header(name: str) -> None:
    with pytest.raises(InvalidInput):
        build_multipart([Part(name, "text/plain", "x")])


def test_smbios_entries_are_single_lines() -> None:
    day0 = Day0(
        method="smbios",
        path="system.product",
        template="TIMOS:address={{ mgmt_ipv4 }}/{{ mgmt_prefix }}@active\nlicense-file=none\n",
        extra={"chassis.serial": "{{ node_id }}"},
    )
    assert render_smbios(day0, VALUES, config=None) == {
        "system.product": "TIMOS:address=172.30.128.5/20@active license-file=none",
        "chassis.serial": "n-1",
    }


# ------------------------------------------------------------------ what a node starts with


def startup(**changes: Any) -> str | None:
    return startup_text(NODE.model_copy(update=changes), VALUES)


def test_text_of_the_user_is_no_template() -> None:
    assert startup(startup_config="hostname {{ x }}") == "hostname {{ x }}"


def test_default_of_the_device_is_one() -> None:
    assert startup(startup_template="hostname {{ hostname }}\n") == "hostname r1\n"


def test_partial_text_comes_after_the_default() -> None:
    assert startup(startup_template="hostname {{ hostname }}", startup_config="ntp {{ x }}\n") == (
        "hostname r1\nntp {{ x }}\n"
    )


def test_stored_revision_wins_over_everything() -> None:
    stored = StoredConfig(revision=2, sha256="", text="saved {{ x }}\n")
    assert startup(startup_template="a", startup_config="b", stored_config=stored) == "saved {{ x }}\n"


def test_a_node_without_any_has_none_and_an_empty_one_is_one() -> None:
    assert startup() is None
    assert startup(startup_config="") == ""
