"""Reading YAML with positions: meaning, places, and bounds that no text can break."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wireloom.yamlfile import Document, locate, path_text, read_yaml
from wireloom.yamlfile.tree import MAX_DEPTH, MAX_TEXT


def read(text: str) -> Document:
    return read_yaml(text, file="f.yml")


def data(text: str) -> object:
    document = read(text)
    assert document.diagnostics == ()
    assert document.root is not None
    return document.root.data()


def messages(text: str) -> list[tuple[int, int, str]]:
    return [(item.line, item.column, item.message) for item in read(text).diagnostics]


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1", 1),
        ("-3", -3),
        ("0x1F", 31),
        ("0o17", 15),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        ("null", None),
        ("yes", "yes"),
        ("on", "on"),
        ("1:30", "1:30"),
        ("'5'", "5"),
        ('"true"', "true"),
        ("!!str 5", "5"),
        ("12345678901234567890123", 12345678901234567890123.0),
        ("r1:eth1", "r1:eth1"),
        ("[1, a]", [1, "a"]),
        ("{a: 1}", {"a": 1}),
    ],
)
def test_scalars_mean_what_yaml_1_2_says(written: str, value: object) -> None:
    found = data(f"k: {written}\n")
    assert found == {"k": value}
    assert isinstance(found, dict)
    assert isinstance(found["k"], type(value))


def test_numbers_remember_how_they_were_written() -> None:
    found = data("a: 010\nb: 1.10\n")
    assert isinstance(found, dict)
    assert (found["a"].written, found["b"].written) == ("010", "1.10")


def test_aliases_and_merge_keys_are_followed() -> None:
    assert data("a: &x {p: 1, q: 2}\nb: *x\nc: {<<: *x, q: 3}\nd: {<<: [*x, {r: 4}]}\n") == {
        "a": {"p": 1, "q": 2},
        "b": {"p": 1, "q": 2},
        "c": {"p": 1, "q": 3},
        "d": {"p": 1, "q": 2, "r": 4},
    }


def test_a_path_leads_to_the_place_of_its_value() -> None:
    root = read("nodes:\n  r1:\n    memory: 5\nlinks:\n- [a, b]\n").root
    assert root is not None
    assert (locate(root, ("nodes", "r1", "memory")).mark.line, locate(root, ("links", 0, 1)).mark.column) == (3, 7)
    assert locate(root, ("links", 0, "endpoints", 1)).path == ("links", 0, 1)
    assert locate(root, ("nodes", "r9", "memory")).path == ("nodes",)
    assert path_text(("links", 3, "endpoints", 1)) == "links[3].endpoints[1]"


@pytest.mark.parametrize(
    ("text", "line", "column", "message"),
    [
        ("a: [1,\n", 2, 1, "this is not YAML"),
        ("a:\n\tb: 1\n", 2, 1, "this is not YAML"),
        ("a: b: c\n", 1, 5, "this is not YAML"),
        ("a: *nowhere\n", 1, 4, "alias *nowhere has no anchor before it"),
        ("a: &x [*x]\n", 1, 8, "alias *x has no anchor before it"),
        ("a: 1\n---\nb: 2\n", 2, 1, "a second document begins here"),
        ("a: 1\nb: 2\na: 3\n", 3, 1, "'a' is given twice, first at line 1, column 1"),
        ("[a]: 1\n", 1, 1, "a key must be a plain word"),
        ("a: !color red\n", 1, 4, "the tag '!color' has no meaning here"),
        ("a: {<<: 5}\n", 1, 5, "'<<' takes a mapping or a list of mappings"),
        ("\x00", 1, 1, "this is not YAML"),
    ],
)
def test_mistakes_of_the_syntax_have_their_place(text: str, line: int, column: int, message: str) -> None:
    found = messages(text)
    assert len(found) == 1
    assert found[0][:2] == (line, column)
    assert message in found[0][2]


def test_all_duplicate_keys_are_reported() -> None:
    assert [line for line, _, _ in messages("a: {x: 1, x: 2}\na: 3\nb: {y: 1,\n y: 2}\n")] == [1, 2, 4]


def test_deep_nesting_is_refused_before_it_hurts() -> None:
    assert messages("[" * 100_000) == [(1, MAX_DEPTH + 1, f"nested more than {MAX_DEPTH} levels deep")]


def test_aliases_cannot_blow_up_the_tree() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    assert messages("\n".join(lines))[0][2] == "this grows too large when its aliases are followed"


def test_aliases_cannot_make_the_tree_deep() -> None:
    lines = ["a0: &a0 [x]"] + [f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 2000)]
    assert messages("\n".join(lines))[0][2] == "this grows too large when its aliases are followed"


def test_a_huge_text_is_not_even_looked_at() -> None:
    assert messages("a" * (MAX_TEXT + 1)) == [(1, 1, "the file is larger than 4 MiB")]


#: Characters that mean something in YAML come more often.
yaml_text = st.text(
    alphabet=st.one_of(st.sampled_from(list("ab12:-[]{},&*!|>'\"%#@` \n\t?~<.\\")), st.characters()), max_size=80
)


@given(yaml_text)
def test_no_text_raises(text: str) -> None:
    document = read(text)
    for item in document.diagnostics:
        assert item.line >= 1
        assert item.column >= 1
