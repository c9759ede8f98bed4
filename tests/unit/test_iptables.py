"""Rules of the host's firewall: how they are told apart, and what is changed to have exactly those wanted."""

from __future__ import annotations

from wireloom.iptables import Rule, difference, read_rules

LISTING = """\
-P FORWARD DROP
-A FORWARD -j DOCKER-USER
-A FORWARD -s 10.0.0.0/8 -i a ! -o a -m comment --comment ours -j ACCEPT
-A FORWARD -i b -m comment --comment "somebody's own words" -j DROP
-A INPUT -i a -m comment --comment ours -j RETURN
-A INPUT -i a -p udp -m udp --dport 53 -m comment --comment ours -j ACCEPT
"""


def rule(chain: str, words: str, comment: str = "ours", target: str = "ACCEPT") -> Rule:
    return Rule("filter", chain, (*words.split(), "-m", "comment", "--comment", comment, "-j", target))


WANTED = [
    rule("FORWARD", "-s 10.0.0.0/8 -i a ! -o a"),
    rule("INPUT", "-i a", target="RETURN"),
    rule("INPUT", "-i a -p udp -m udp --dport 53"),
]


def network_of(one: Rule) -> str | None:
    return one.value("--comment") if one.value("--comment").startswith("ours") else None


def changes(listing: str, wanted: list[Rule]) -> list[str]:
    return difference(read_rules("filter", listing), wanted, network_of)


def test_only_rules_with_a_comment_are_read() -> None:
    found = read_rules("filter", LISTING)
    assert [(one.chain, one.value("--comment")) for one in found] == [
        ("FORWARD", "ours"),
        ("FORWARD", "somebody's own words"),
        ("INPUT", "ours"),
        ("INPUT", "ours"),
    ]
    assert found[0].match == WANTED[0].match


def test_what_is_there_is_left_alone() -> None:
    assert changes(LISTING, WANTED) == []


def test_the_order_of_options_is_the_programs_own() -> None:
    told = LISTING.replace("-s 10.0.0.0/8 -i a ! -o a", "! -o a -i a -s 10.0.0.0/8")
    assert changes(told, WANTED) == []


def test_what_is_negated_is_another_rule() -> None:
    told = LISTING.replace("-i a ! -o a", "! -i a -o a")
    assert changes(told, WANTED) == [
        "-D FORWARD -s 10.0.0.0/8 ! -i a -o a -m comment --comment ours -j ACCEPT",
        "-I FORWARD -s 10.0.0.0/8 -i a ! -o a -m comment --comment ours -j ACCEPT",
    ]


def test_a_chain_that_lacks_a_rule_or_has_them_in_another_order_is_made_anew() -> None:
    lines = LISTING.splitlines()
    wanted = [
        "-I INPUT -i a -p udp -m udp --dport 53 -m comment --comment ours -j ACCEPT",
        "-I INPUT -i a -m comment --comment ours -j RETURN",
    ]
    without = "\n".join(lines[:-1])
    assert changes(without, WANTED) == ["-D INPUT -i a -m comment --comment ours -j RETURN", *wanted]
    reordered = "\n".join([*lines[:4], lines[5], lines[4]])
    assert changes(reordered, WANTED)[2:] == wanted
    doubled = "\n".join([*lines, lines[4]])
    assert changes(doubled, WANTED)[3:] == wanted


def test_rules_of_other_networks_and_of_others_stay() -> None:
    stale = LISTING + "-A INPUT -i z -m comment --comment ours-before -j ACCEPT\n"
    assert changes(stale, WANTED) == ["-D INPUT -i z -m comment --comment ours-before -j ACCEPT"]
    assert [line.split()[:2] for line in changes(stale, [])] == [
        ["-D", "FORWARD"],
        ["-D", "INPUT"],
        ["-D", "INPUT"],
        ["-D", "INPUT"],
    ]
