"""Templates of day-0 files: what they can say, and that they can neither reach the program nor use it up."""

from __future__ import annotations

import contextlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wireloom.day0.crypt import salt_for, sha512_crypt
from wireloom.day0.templates import MAX_OUTPUT, check, render, undeclared
from wireloom.errors import InvalidInput

VALUES = {
    "hostname": "r1",
    "mgmt_ipv4": "",
    "password": "admin",
    "keys": "a\nb\n",
    "ports": [{"name": "eth1", "index": 1}, {"name": "eth2", "index": 2}],
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("no template at all", "no template at all"),
        ("hostname {{ hostname }}\n", "hostname r1\n"),
        ("{% for p in ports %}\ninterface {{ p.name }}\n{% endfor %}\nend", "interface eth1\ninterface eth2\nend"),
        ("{% for p in ports %}{{ loop.index }}{{ ',' if not loop.last else '' }}{% endfor %}", "1,2"),
        ("{% for p in ports if p.index > 1 %}{{ p.name }}{% endfor %}", "eth2"),
        ("{% if mgmt_ipv4 %}ip{% else %}none{% endif %}", "none"),
        ("{{ 'yes' if hostname == 'r1' and ports | length == 2 else 'no' }}", "yes"),
        ("{{ hostname ~ '-' ~ 7 }}", "r1-7"),
        ("{% set base = 100 %}{% for i in range(3) %}{{ base + i * 2 }} {% endfor %}", "100 102 104 "),
        ("{% for k in keys | lines %}\n- {{ k | quote }}\n{% endfor %}", '- "a"\n- "b"\n'),
        ("  x: |\n    {{ keys | indent(4) }}", "  x: |\n    a\n    b\n"),
        ("{{ keys | indent(width=1) }}", "a\n b\n"),
        ("{{ mgmt_ipv4 | default('dhcp') }} {{ hostname | upper | replace('1', '2') }}", "dhcp R2"),
        ("{{ '<a&\"b\">' | xml }}{{ ' x ' | trim }}{{ [1, 2] | join('+') }}", "&lt;a&amp;&quot;b&quot;&gt;x1+2"),
        ("{% raw %}{{ not this }}{% endraw %}{# nor this #}", "{{ not this }}"),
        ("{% if 'hostname ' not in keys %}x{% endif %}", "x"),
    ],
)
def test_what_a_template_can_say(text: str, expected: str) -> None:
    assert render(text, VALUES) == expected


@pytest.mark.parametrize(
    "text",
    [
        "{{ hostname.__class__ }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ hostname.upper }}",
        "{{ hostname.upper() }}",
        "{{ hostname | attr('__class__') }}",
        "{{ range.__globals__ }}",
        "{{ self }}",
        "{{ self._TemplateReference__context }}",
        "{{ _bounds }}",
        "{{ lipsum(5) }}",
        "{{ cycler('a') }}",
        "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}",
        "{% extends 'x' %}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% set _x = 1 %}",
    ],
)
def test_a_template_reaches_nothing_but_its_variables(text: str) -> None:
    with pytest.raises(InvalidInput):
        render(text, VALUES)


@pytest.mark.parametrize(
    "text",
    [
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% for a in ports %}" * 18 + "{% endfor %}" * 18,
        "{{ range(1000000) | join }}",
        "{{ 'a' * 9999999999 }}",
        "{{ 9 ** 9 ** 9 }}",
        "{% set a = 'xxxxxxxxxx' %}" + "{% set a = a ~ a %}" * 40 + "{{ a | length }}",
        "{% set a = 'xxxxxxxxxx' %}" + "{% set a = a + a %}" * 40 + "{{ a | length }}",
        "{% set a = 'aaaaaaaaaa' %}" + "{% set a = a | replace('a', 'aaaaaaaaaa') %}" * 10 + "{{ a | length }}",
        "{% set a = 2 %}" + "{% set a = a * a %}" * 40 + "{{ a }}",
        "{{ '%999999999d' % 1 }}",
        "{{ hostname | format(1) }}",
        "{{ hostname | center(999999999) }}",
        "{{ keys | indent(999999999) }}",
        "{% set a = [hostname, hostname] %}",
        "{% set a %}x{% endset %}",
        "{% filter upper %}x{% endfilter %}",
        "{% for i in range(100000) %}" + "x" * 200 + "{% endfor %}",
        "{% for i in range(1000) %}{{ password | sha512_crypt }}{% endfor %}",
        "{% for i in range(90000) %}{% set a = big | upper %}{% endfor %}",
        "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}",
    ],
)
def test_a_template_cannot_use_much_time_or_memory(text: str) -> None:
    began = time.process_time()
    with pytest.raises(InvalidInput):
        render(text, VALUES | {"big": "x" * 100_000})
    assert time.process_time() - began < 5


def test_output_is_bounded() -> None:
    with pytest.raises(InvalidInput, match="longer than"):
        render("{{ text }}{{ text }}", {"text": "x" * (MAX_OUTPUT - 1)})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{ hostnam }}", r"r1\.j2: 'hostnam' is undefined"),
        ("a\n{{ hostname", r"r1\.j2: line 2: "),
        ("{{ ports[0].speed }}", "has no attribute 'speed'"),
        ("{{ ports }}", "a list cannot be written"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{{ 1 < hostname }}", "not supported between"),
        ("{{ 4 is divisibleby(0) }}", "by zero"),
        ("{{ hostname | nofilter }}", "there is no filter 'nofilter'"),
    ],
)
def test_mistakes_say_where_and_what(text: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        render(text, VALUES, what="r1.j2")


def test_a_template_is_checked_without_values() -> None:
    check(
        "{{ hostname }}{% for p in ports %}{{ loop.index }}{{ p.name }}{% endfor %}", frozenset({"hostname", "ports"})
    )
    with pytest.raises(InvalidInput, match="'x' is undefined"):
        check("{% if false %}{{ x }}{% endif %}", frozenset())
    assert undeclared("{% set a = b %}{{ a }}{{ range(c) }}") == {"b", "c"}


@given(st.text(st.sampled_from("{}%#-| \n'\"abcforinsetifend()[].,~+*_019"), max_size=60))
def test_any_text_is_rendered_or_refused(text: str) -> None:
    with contextlib.suppress(InvalidInput):
        assert isinstance(render(text, {"a": 1, "b": "x"}), str)


# ------------------------------------------------------------------ password hashes


@pytest.mark.parametrize(
    ("salt", "password", "expected"),
    [  # as `openssl passwd -6` gives them
        (
            "saltstring",
            "Hello world!",
            "svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1",
        ),
        (
            "abc",
            "admin@123",
            "8jWiVV1bpLGnKk1FWV4klFtlrEIE0Lggcid.HIFrfGd6hA5yWGsBRLGgwYUh54W2vHRTy8yYNWZ.7fXYW0QfQ/",
        ),
        (
            "saltsaltsaltsalt",
            "ä" * 40,
            "lD/5QFfr6cVvYxLcz9hqH6r6uS9PnAudOXPe2wLzgPKr336yLNMElZQZL/TVkDZ.pm2yTBr1ROTa5rm.9ji9s1",
        ),
    ],
)
def test_hashes_are_those_of_the_algorithm(salt: str, password: str, expected: str) -> None:
    assert sha512_crypt(password, salt) == f"$6${salt}${expected}"


def test_a_hash_is_the_same_for_the_same_node_and_differs_between_nodes() -> None:
    def hashed(node_id: str) -> str:
        return render("{{ password | sha512_crypt }}", VALUES, salt=salt_for(node_id))

    assert hashed("a") == hashed("a")
    assert hashed("a") != hashed("b")
