"""Every mistake in a topology is said with its place and what to write instead, and all of them at once."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wireloom.devices import DeviceCatalogue
from wireloom.errors import TopologyInvalid
from wireloom.model.diagnostic import Diagnostic, format_diagnostics
from wireloom.planning.topology import parse_topology, startup_config_paths

CATALOGUE = DeviceCatalogue.load()
SCHEMAS = {
    "docker": {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "cap_add": {"type": "array", "items": {"type": "string"}},
            "tty": {"type": "boolean"},
            "size": {"anyOf": [{"type": "integer", "exclusiveMinimum": 0}, {"type": "null"}]},
            "bus": {"enum": ["ide", "virtio"]},
            "user": {"$ref": "#/$defs/Word"},
            "sysctls": {"type": "object", "additionalProperties": {"type": "integer"}},
        },
        "$defs": {"Word": {"type": "string", "pattern": "^[a-z]+$"}},
    }
}


def mistakes(text: str, **files: str) -> list[Diagnostic]:
    with pytest.raises(TopologyInvalid) as caught:
        parse_topology(text, source="lab.yml", files=files, devices=CATALOGUE, settings_schemas=SCHEMAS)
    return [Diagnostic.model_validate(item) for item in caught.value.details["diagnostics"]]


def lab(nodes: str, links: str = "", rest: str = "") -> str:
    """A lab whose nodes start on line 3, column 3; the links' first item is on the line after ``links:``."""
    text = f"name: lab\nnodes:\n{nodes}"
    return text + (f"links:\n{links}" if links else "") + rest


TWO = "  r1: {device: frr}\n  r2: {device: frr}\n"  # lines 3 and 4; links from line 6

TABLE = [
    # (what, text, line, column, message, suggestion)
    ("unknown key at the top", lab(TWO, rest="linkz: []\n"), 5, 1, "unknown key 'linkz'", "did you mean 'links'?"),
    ("unknown key of a node", lab("  r1: {devise: frr}\n"), 3, 8, "unknown key 'devise'", "did you mean 'device'?"),
    (
        "unknown key of a link",
        lab(TWO, "- {endpoints: [r1:eth1, r2:eth1], mtuu: 1}\n"),
        6,
        35,
        "unknown key 'mtuu'",
        "did you mean 'mtu'?",
    ),
    (
        "unknown key of defaults",
        lab(TWO, rest="defaults: {xyzzy: 1}\n"),
        5,
        12,
        "unknown key 'xyzzy'",
        "known are: device",
    ),
    ("no name", "nodes: {r1: {device: frr}}\n", 1, 1, "the lab has no name", "begin with `name: my-lab`"),
    ("no nodes", "name: lab\n", 1, 1, "the lab has no nodes", "add `nodes:`"),
    (
        "name unfit for a host name",
        "name: my lab\nnodes: {r1: {device: frr}}\n",
        1,
        7,
        "lab name 'my lab' is unfit for a host name",
        "e.g. 'my-lab'",
    ),
    (
        "node name with underscore",
        lab("  core_1: {device: frr}\n"),
        3,
        3,
        "node name 'core_1' is unfit for a host name",
        "e.g. 'core-1'",
    ),
    (
        "node name too long",
        lab(f"  {'a' * 64}: {{device: frr}}\n"),
        3,
        3,
        "is unfit for a host name",
        f"e.g. '{'a' * 63}'",
    ),
    (
        "node called localhost",
        lab("  localhost: {device: frr}\n"),
        3,
        3,
        "always means the machine itself",
        "choose another",
    ),
    (
        "duplicate node",
        lab("  r1: {device: frr}\n  r1: {device: linux}\n"),
        4,
        3,
        "'r1' is given twice, first at line 3, column 3",
        "keep one of them",
    ),
    (
        "node names differing in case",
        lab("  r1: {device: frr}\n  R1: {device: linux}\n"),
        4,
        3,
        "differs from 'r1' only in case",
        "rename one",
    ),
    ("no device", lab("  r1: {cpu: 1}\n"), 3, 3, "node 'r1' has no device", "add `device: …`"),
    ("no body", lab("  r1:\n"), 3, 3, "node 'r1' has no device", "add `device: …`"),
    ("unknown device", lab("  r1: {device: ffr}\n"), 3, 16, "there is no device 'ffr'", "did you mean 'frr'?"),
    (
        "unknown device in defaults",
        lab("  r1:\n", rest="defaults: {device: ffr}\n"),
        4,
        20,
        "there is no device 'ffr'",
        "did you mean 'frr'?",
    ),
    (
        "unknown provider",
        lab("  r1: {device: frr, provider: dokcer}\n"),
        3,
        31,
        "there is no provider 'dokcer'",
        "did you mean 'docker'?",
    ),
    (
        "container image on libvirt",
        lab("  r1: {device: frr, provider: libvirt, image: 'quay.io/frr:1'}\n"),
        3,
        47,
        "image 'quay.io/frr:1' is not one that libvirt can run",
        "say `provider: docker`",
    ),
    (
        "disk image on docker",
        lab("  r1: {device: frr, image: r.qcow2}\n"),
        3,
        28,
        "image 'r.qcow2' is not one that docker can run",
        "say `provider: libvirt`",
    ),
    (
        "empty image",
        lab("  r1: {device: frr, image: ''}\n"),
        3,
        28,
        "the name of an image is empty",
        "leave `image` out",
    ),
    (
        "no image where the device has none",
        lab("  r1: {device: generic}\n"),
        3,
        3,
        "device 'generic' has no image of its own on docker",
        "name one, e.g. `image: quay.io",
    ),
    ("text for cpu", lab("  r1: {device: frr, cpu: many}\n"), 3, 26, "a number is expected here, not 'many'", ""),
    ("no cpu at all", lab("  r1: {device: frr, cpu: 0}\n"), 3, 26, "must be greater than 0, not 0", ""),
    (
        "too little cpu",
        lab("  r1: {device: frr, provider: libvirt, cpu: 0.5}\n"),
        3,
        45,
        "0.5 cores are too few for frr on libvirt",
        "give it at least 1",
    ),
    ("infinite cpu", lab("  r1: {device: frr, cpu: 1e999}\n"), 3, 26, "a finite number is expected here", ""),
    (
        "strange memory",
        lab("  r1: {device: frr, memory: 5 apples}\n"),
        3,
        29,
        "'5 apples' is not an amount of memory",
        "write 512MB",
    ),
    (
        "too little memory",
        lab("  r1: {device: frr, provider: libvirt, memory: 64MB}\n"),
        3,
        48,
        "64 MiB of memory are too little for frr on libvirt",
        "give it at least 192MB",
    ),
    ("too much memory", lab("  r1: {device: frr, memory: 100TiB}\n"), 3, 29, "must be at most", ""),
    (
        "missing file",
        lab("  r1: {device: frr, startup-config: r1.cfg}\n"),
        3,
        37,
        "there is no file 'r1.cfg'",
        "give its path",
    ),
    (
        "startup-config of a device without",
        lab('  r1: {device: generic, image: i, startup-config: "a\\nb"}\n'),
        3,
        35,
        "device 'generic' takes no startup configuration on docker",
        "use `exec`",
    ),
    (
        "startup-config as list",
        lab("  r1: {device: frr, startup-config: [a]}\n"),
        3,
        37,
        "the name of a file, or the configuration as a block, is expected",
        "begin with `|`",
    ),
    (
        "bind without target",
        lab("  r1: {device: frr, binds: [/a]}\n"),
        3,
        29,
        "'/a' is not a bind",
        "write /host/path:/guest/path",
    ),
    (
        "relative bind",
        lab("  r1: {device: frr, binds: ['a:/b']}\n"),
        3,
        29,
        "'a' is not an absolute path",
        "begin it with '/'",
    ),
    (
        "bind in long form without target",
        lab("  r1: {device: frr, binds: [{source: /a}]}\n"),
        3,
        29,
        "'target' is missing",
        "add `target: …`",
    ),
    ("env without value", lab("  r1: {device: frr, env: [A]}\n"), 3, 26, "'A' has no value", "write `A: value`"),
    ("env with a list", lab("  r1: {device: frr, env: {A: [1]}}\n"), 3, 30, "text is expected here, not a list", ""),
    ("exec as text", lab("  r1: {device: frr, exec: ls}\n"), 3, 27, "a list is expected here, not 'ls'", ""),
    (
        "exec with a number",
        lab("  r1: {device: frr, exec: [5]}\n"),
        3,
        28,
        "text is expected here, not 5",
        "put quotes around it",
    ),
    (
        "reserved label",
        lab("  r1: {device: frr, labels: {wireloom.lab: x}}\n"),
        3,
        30,
        "labels that begin with 'wireloom.' are Wireloom's own",
        "choose another name",
    ),
    (
        "unknown restart policy",
        lab("  r1: {device: frr, restart: alway}\n"),
        3,
        30,
        "'alway' is not one of: always, on-failure, never",
        "did you mean 'always'?",
    ),
    (
        "position with one number",
        lab("  r1: {device: frr, position: [1]}\n"),
        3,
        31,
        "a position has two numbers",
        "write [x, y]",
    ),
    (
        "spare ports without end",
        lab("  r1: {device: frr, spare-ports: 1000}\n"),
        3,
        34,
        "must be at most 64, not 1000",
        "",
    ),
    ("mgmt with a word", lab("  r1: {device: frr, mgmt: no}\n"), 3, 27, "true or false is expected here, not 'no'", ""),
    (
        "unknown setting",
        lab("  r1: {device: frr, settings: {cap_ad: []}}\n"),
        3,
        32,
        "docker: unknown key 'cap_ad'",
        "did you mean 'cap_add'?",
    ),
    (
        "setting of wrong type",
        lab("  r1: {device: frr, settings: {tty: 5}}\n"),
        3,
        37,
        "docker: 5 has the wrong type",
        "boolean is expected",
    ),
    (
        "setting in a list",
        lab("  r1: {device: frr, settings: {cap_add: [X, 1]}}\n"),
        3,
        45,
        "docker: 1 has the wrong type",
        "string is expected",
    ),
    (
        "setting out of range",
        lab("  r1: {device: frr, settings: {size: 0}}\n"),
        3,
        38,
        "docker: must be greater than 0, not 0",
        "",
    ),
    (
        "setting not among the choices",
        lab("  r1: {device: frr, settings: {bus: ied}}\n"),
        3,
        37,
        "docker: 'ied' is not allowed",
        "did you mean 'ide'?",
    ),
    (
        "setting of wrong form",
        lab("  r1: {device: frr, settings: {user: R2}}\n"),
        3,
        38,
        "docker: 'R2' does not have the form",
        "",
    ),
    (
        "setting deep inside",
        lab("  r1: {device: frr, settings: {sysctls: {a.b: x}}}\n"),
        3,
        47,
        "docker: 'x' has the wrong type",
        "integer is expected",
    ),
    (
        "settings in defaults",
        lab("  r1: {device: frr}\n", rest="defaults: {settings: {docker: {ttty: true}}}\n"),
        4,
        32,
        "docker: unknown key 'ttty'",
        "did you mean 'tty'?",
    ),
    (
        "dependency on nobody",
        lab("  r1: {device: frr, depends-on: [r9]}\n  r2: {device: frr}\n"),
        3,
        34,
        "there is no node 'r9'",
        "known are: r2",
    ),
    (
        "dependency on itself",
        lab("  r1: {device: frr, depends-on: [r1]}\n"),
        3,
        34,
        "node 'r1' depends on itself",
        "remove it",
    ),
    (
        "strange condition",
        lab("  r1: {device: frr, depends-on: {r2: redy}}\n  r2: {device: frr}\n"),
        3,
        38,
        "'redy' is not one of: running, ready",
        "did you mean 'ready'?",
    ),
    (
        "cycle",
        lab(
            "  a: {device: frr, depends-on: [b]}\n  b: {device: frr, depends-on: [c]}\n  c: {device: frr, depends-on: {a: running}}\n"
        ),
        3,
        20,
        "depends-on goes round in a circle: a → b → c → a",
        "remove one of them",
    ),
    ("dangling node", lab(TWO, "- [r1:eth1, r3:eth1]\n"), 6, 13, "there is no node 'r3'", "known are: r1, r2"),
    (
        "mistyped node",
        lab("  core: {device: frr}\n  r1: {device: frr}\n", "- [r1:eth1, croe:eth1]\n"),
        6,
        13,
        "there is no node 'croe'",
        "did you mean 'core:eth1'?",
    ),
    (
        "dangling interface",
        lab(TWO, "- [r1:eth1, r2:eth77]\n"),
        6,
        13,
        "node 'r2' (frr) has no interface 'eth77'",
        "did you mean 'r2:eth7'? its ports are eth1 to eth32",
    ),
    (
        "end without interface",
        lab(TWO, "- [r1:eth1, r2]\n"),
        6,
        13,
        "'r2' is not an end of a link",
        "write node:interface",
    ),
    (
        "management port",
        lab(TWO, "- [r1:eth1, r2:eth0]\n"),
        6,
        13,
        "r2:eth0 is the management port and takes no link",
        "its ports for links are eth1 to eth32",
    ),
    (
        "port used twice",
        lab("  r1: {device: frr}\n  r2: {device: frr}\n", "- [r1:eth1, r2:eth1]\n- [r2:eth2, r1:ETH1]\n"),
        7,
        13,
        "port r1:eth1 is used twice, first at line 6, column 4",
        "a port takes one link",
    ),
    ("self link", lab(TWO, "- [r1:eth1, r1:eth1]\n"), 6, 3, "r1:eth1 is linked to itself", "a link joins two ports"),
    ("one end", lab(TWO, "- [r1:eth1]\n"), 6, 3, "should have at least 2 items", ""),
    ("three ends", lab(TWO, "- [r1:eth1, r2:eth1, r1:eth2]\n"), 6, 3, "should have at most 2 items", ""),
    ("link of text", lab(TWO, "- r1:eth1\n"), 6, 3, "a mapping of keys to values is expected here, not 'r1:eth1'", ""),
    ("empty link", lab(TWO, "-\n"), 0, 0, "this link is empty", "write `- [r1:eth1, r2:eth1]`"),
    ("link without ends", lab(TWO, "- {mtu: 1500}\n"), 6, 3, "'endpoints' is missing", "add `endpoints: …`"),
    (
        "MTU too small",
        lab(TWO, "- {endpoints: [r1:eth1, r2:eth1], mtu: 67}\n"),
        6,
        40,
        "must be at least 68, not 67",
        "",
    ),
    (
        "MTU too large",
        lab(TWO, "- {endpoints: [r1:eth1, r2:eth1], mtu: 65536}\n"),
        6,
        40,
        "must be at most 65535, not 65536",
        "",
    ),
    (
        "MTU as text",
        lab(TWO, "- {endpoints: [r1:eth1, r2:eth1], mtu: jumbo}\n"),
        6,
        40,
        "a whole number is expected here, not 'jumbo'",
        "",
    ),
    ("links as mapping", lab(TWO, rest="links: {a: b}\n"), 5, 8, "a list is expected here, not a mapping", ""),
    ("nodes as list", "name: lab\nnodes: [a]\n", 2, 8, "a mapping of keys to values is expected here, not a list", ""),
    ("empty file", "", 1, 1, "the file is empty, where a topology was expected", ""),
    ("only a comment", "# nothing\n", 1, 1, "the file is empty", ""),
    ("only a word", "hello\n", 1, 1, "a topology is a mapping of keys to values", "begin with"),
    ("syntax", "name: [\n", 2, 1, "this is not YAML", ""),
    ("tab", "name: x\nnodes:\n\tr1: 5\n", 3, 1, "this is not YAML", "use spaces, not tabs, to indent"),
]


@pytest.mark.parametrize(
    ("text", "line", "column", "message", "suggestion"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_a_mistake_is_said_with_its_place_and_a_suggestion(
    text: str, line: int, column: int, message: str, suggestion: str
) -> None:
    found = mistakes(text)
    matching = [item for item in found if message in item.message]
    assert matching, format_diagnostics(found)
    if line:
        assert (matching[0].line, matching[0].column) == (line, column)
    assert suggestion in matching[0].suggestion
    assert matching[0].file == "lab.yml"


@pytest.mark.parametrize("text", [row[1] for row in TABLE if row[2]], ids=[row[0] for row in TABLE if row[2]])
def test_one_mistake_is_reported_once_and_causes_no_others(text: str) -> None:
    found = mistakes(text)
    assert len(found) == 1, format_diagnostics(found)


def test_all_mistakes_come_at_once_in_the_order_of_the_file() -> None:
    text = (
        "name: my lab\n"
        "nodes:\n"
        "  r1: {devise: frr, memory: lots}\n"
        "  r2: {device: linx, cpu: 0}\n"
        "  r3: {device: linux, image: x.qcow2, depends-on: [r9]}\n"
        "links:\n"
        "- [r1:eth1, r3:eth99]\n"
        "- [r3:eth1, r7:eth1]\n"
        "- {endpoints: [r3:eth1, r1:eth2], mtu: 1}\n"
        "color: red\n"
    )
    lines = [item.line for item in mistakes(text)]
    assert lines == [1, 3, 3, 4, 4, 5, 5, 7, 8, 9, 9, 10]


def test_the_error_itself_tells_the_first_mistakes() -> None:
    with pytest.raises(TopologyInvalid, match=r"lab.yml has 1 mistake: line 3: unknown key 'devise'"):
        parse_topology("name: lab\nnodes:\n  r1: {devise: frr}\n", source="lab.yml", devices=CATALOGUE)


def test_diagnostics_are_printed_as_terminals_and_editors_know_them() -> None:
    printed = format_diagnostics(mistakes(lab("  r1: {device: ffr}\n")))
    assert printed == "lab.yml:3:16: there is no device 'ffr'\n    did you mean 'frr'?"


def test_a_mistake_has_a_path() -> None:
    assert [item.path for item in mistakes(lab(TWO, "- [r1:eth1, r9:eth1]\n"))] == ["links[0].endpoints[1]"]
    assert [item.path for item in mistakes(lab("  r1: {device: frr, memory: x}\n"))] == ["nodes.r1.memory"]


def test_two_knots_of_dependencies_are_two_mistakes() -> None:
    waits = {"a": "b", "b": "a", "c": "d", "d": "c"}
    nodes = "".join(f"  {name}: {{device: frr, depends-on: [{other}]}}\n" for name, other in waits.items())
    assert [item.message.rpartition(": ")[2] for item in mistakes(lab(nodes))] == ["a → b → a", "c → d → c"]


fragments = st.lists(
    st.sampled_from(
        [
            "name: x\n",
            "nodes:\n",
            "  r1:",
            " {device: frr}\n",
            "\n",
            "    device: linux\n",
            "links:\n",
            "- [r1:eth1, r1:eth2]\n",
            "[",
            "{",
            "}",
            "]",
            "&a ",
            "*a",
            "<<: ",
            "? ",
            "|\n",
            "'",
            '"',
            "#",
            "\t",
            "- ",
            ": ",
            "!!int ",
            "---\n",
            "mtu: 1\n",
            "~",
            "5",
            "defaults:\n",
            "  settings: {docker: {tty: 1}}\n",
            "    depends-on: [r1]\n",
            "    env: [a]\n",
            "  r1: *a\n",
        ]
    ),
    max_size=25,
).map("".join)


@settings(deadline=None)
@given(st.one_of(fragments, st.text(max_size=120)))
def test_no_text_raises_anything_but_topology_invalid(text: str) -> None:
    with suppress(TopologyInvalid):
        parse_topology(text, devices=CATALOGUE, settings_schemas=SCHEMAS)
    startup_config_paths(text)
