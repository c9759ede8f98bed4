"""The table of guest access: a run changes what it was about, and the page keeps the rest."""

from __future__ import annotations

from pathlib import Path

from wireloom.devices import DeviceCatalogue
from wireloom.testing.conformance.guest_table import PAGE, Entry, dump, load, merge, overlaid, parse, render

_LOG = Entry("cisco_asav", "ready", "log", "docker")
_SERIAL = Entry("cisco_asav", "run", "serial", "docker")
_ON_DISK = Entry("cisco_asav", "ready", "log", "libvirt")


def test_record_of_a_run_replaces_its_own_cases_only() -> None:
    known = {"asa-docker": frozenset({_LOG, _SERIAL}), "asa-libvirt": frozenset({_ON_DISK})}
    merged = merge(load(dump(known)), {"asa-docker": [_LOG]})
    assert merged == {"asa-docker": {_LOG}, "asa-libvirt": {_ON_DISK}}


def test_case_that_was_run_replaces_the_cells_of_its_device_and_technology() -> None:
    page = [_LOG, _SERIAL, _ON_DISK]
    assert overlaid(page, {"asa-docker": frozenset({_LOG})}) == {_LOG, _ON_DISK}


def test_one_of_several_cases_of_a_device_adds_to_its_cells() -> None:
    old = Entry("cisco_iosxr", "run", "serial", "docker")
    new = Entry("cisco_iosxr", "run", "ssh", "docker")
    assert overlaid([old], {"iosxr-docker": frozenset({new})}) == {old, new}
    assert overlaid([old], {"iosxr-docker": frozenset({new}), "iosxr-serial-docker": frozenset()}) == {new}


def test_what_no_case_is_about_any_more_goes() -> None:
    gone = Entry("ceos", "run", "exec", "libvirt")
    assert overlaid([gone, _LOG], {"gone-libvirt": frozenset({gone})}) == {_LOG}


def test_the_committed_page_is_read_and_rendered_without_loss() -> None:
    page = (Path(__file__).parents[2] / PAGE).read_text(encoding="utf-8")
    assert render(parse(page), DeviceCatalogue.load()) == page
