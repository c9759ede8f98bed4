"""CDs that were made to hurt: each is refused for its own reason, quickly, and leaves nothing behind."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from media_rig import DISK, IOSV, PLATFORM, SECTOR, Spoilt, build_cd, image_definition, write_cd

from wireloom.devices import DeviceCatalogue
from wireloom.library import media
from wireloom.library.media.definitions import TEXT_BYTES
from wireloom.library.media.reader import read_medium
from wireloom.library.values import ImageRefused, Limits

LIMITS = Limits()
DISK_NAME = "vios-adventerprisek9-m.spa.159-3.m8.qcow2"
IMAGES = "virl-base-images/iosv-159-3-m8"
DEEP = "/".join(f"d{number}" for number in range(10))
LONG = "n" * 200

FILES: Mapping[str, bytes] = {
    **PLATFORM,
    f"virl-base-images/{LONG}/x.yaml": b"",
    "empty": b"",
    **{f"many/file{number:03d}": b"x" for number in range(200)},
}


def refused(path: Path, limits: Limits = LIMITS) -> str:
    started = time.monotonic()
    with pytest.raises(ImageRefused) as caught:
        read_medium(path, limits)
    assert time.monotonic() - started < 10
    return str(caught.value.details["reason"])


def loop_to_parent(cd: Spoilt) -> None:
    cd.move("iosv-159-3-m8", cd.place("virl-base-images"))


def loop_to_root(cd: Spoilt) -> None:
    root = struct.unpack_from("<I", cd.data, 16 * SECTOR + 158)[0]
    cd.move("iosv-159-3-m8", root)


def loop_to_self(cd: Spoilt) -> None:
    cd.move("many", cd.place("virl-base-images"))


def outside(cd: Spoilt) -> None:
    cd.move(DISK_NAME, 1 << 24)


def larger_than_the_image(cd: Spoilt) -> None:
    cd.resize(DISK_NAME, 1 << 30)


def folder_outside(cd: Spoilt) -> None:
    cd.move("many", 1 << 24)


def folder_without_end(cd: Spoilt) -> None:
    cd.resize("many", 1 << 31)


def folder_of_nothing(cd: Spoilt) -> None:
    cd.resize("many", 0)


def two_sizes(cd: Spoilt) -> None:
    struct.pack_into(">I", cd.data, cd.record(DISK_NAME) + 14, 1)


def two_places(cd: Spoilt) -> None:
    struct.pack_into(">I", cd.data, cd.record(DISK_NAME) + 6, 1)


def overlapping(cd: Spoilt) -> None:
    cd.move("acme.qcow2", cd.place(DISK_NAME) + 1)


def over_the_headers(cd: Spoilt) -> None:
    cd.move("acme.qcow2", 15)


def over_a_folder(cd: Spoilt) -> None:
    cd.move("acme.qcow2", cd.place("many"))


def larger_than_itself(cd: Spoilt) -> None:
    cd.resize("file000", 3 * SECTOR)


def record_of_impossible_length(cd: Spoilt) -> None:
    cd.put(cd.record("file100"), b"\x21")


def record_over_the_sector(cd: Spoilt) -> None:
    cd.put(cd.record("file100"), b"\xff")


def name_longer_than_its_record(cd: Spoilt) -> None:
    cd.put(cd.record("file100") + 32, b"\xf0")


def name_of_nothing(cd: Spoilt) -> None:
    cd.put(cd.record("file100") + 32, b"\x00")


def control_characters(cd: Spoilt) -> None:
    cd.put(cd.field("file100", b"NM") + 5, b"fi\ne\x1b[0")


def a_slash(cd: Spoilt) -> None:
    cd.put(cd.field("file100", b"NM") + 5, b"../fi10")


def no_text(cd: Spoilt) -> None:
    cd.put(cd.field("file100", b"NM") + 5, b"\xff\xfe\xfd")


def twice(cd: Spoilt) -> None:
    cd.put(cd.field("file100", b"NM") + 5, b"file101")


def field_of_impossible_length(cd: Spoilt) -> None:
    cd.put(cd.field("file100", b"NM") + 2, b"\x02")


def device_node(cd: Spoilt) -> None:
    struct.pack_into("<I", cd.data, cd.field("file100", b"PX") + 4, 0o020666)


def fifo(cd: Spoilt) -> None:
    struct.pack_into("<I", cd.data, cd.field("file100", b"PX") + 4, 0o010666)


def interleaved(cd: Spoilt) -> None:
    cd.put(cd.record("file100") + 26, b"\x01\x01")


def continued_in_itself(cd: Spoilt) -> None:
    area = _continued(cd)
    block, offset, length = struct.unpack_from("<IxxxxIxxxxI", cd.data, area + 4)
    start = block * SECTOR + offset
    # What goes on says first of all that it goes on, in the same place.
    cd.put(start, _continuation(block, offset, max(length, 28)))
    cd.put(area, _continuation(block, offset, max(length, 28)))


def continued_outside(cd: Spoilt) -> None:
    cd.put(_continued(cd), _continuation(1 << 24, 0, 100))


def continued_without_end(cd: Spoilt) -> None:
    cd.put(_continued(cd), _continuation(0, 0, 1 << 31))


def _continued(cd: Spoilt) -> int:
    """Offset of the field of the entry with the long name that says where the name goes on."""
    return cd.data.index(b"CE\x1c\x01", 20 * SECTOR)


def _continuation(block: int, offset: int, length: int) -> bytes:
    both = b"".join(struct.pack("<I", value) + struct.pack(">I", value) for value in (block, offset, length))
    return b"CE\x1c\x01" + both


def no_end_of_descriptors(cd: Spoilt) -> None:
    end = cd.data.index(b"\xffCD001")
    for number in range(80):
        cd.put(end + number * SECTOR, b"\x00CD001")


def other_sectors(cd: Spoilt) -> None:
    cd.put(16 * SECTOR + 128, b"\x00\x02\x02\x00")


def larger_than_it_is(cd: Spoilt) -> None:
    struct.pack_into("<I", cd.data, 16 * SECTOR + 80, 1 << 24)


def truncated(cd: Spoilt) -> None:
    del cd.data[len(cd.data) // 2 :]


def nearly_nothing(cd: Spoilt) -> None:
    del cd.data[17 * SECTOR :]


HOSTILE: dict[Callable[[Spoilt], None], str] = {
    loop_to_parent: "loop",
    loop_to_root: "loop",
    loop_to_self: "loop",
    outside: "truncated",
    larger_than_the_image: "truncated",
    folder_outside: "truncated",
    folder_without_end: "size",
    folder_of_nothing: "size",
    two_sizes: "corrupt",
    two_places: "corrupt",
    overlapping: "overlap",
    over_the_headers: "overlap",
    over_a_folder: "overlap",
    larger_than_itself: "overlap",
    record_of_impossible_length: "corrupt",
    record_over_the_sector: "corrupt",
    name_longer_than_its_record: "name",
    name_of_nothing: "name",
    control_characters: "name",
    a_slash: "name",
    no_text: "name",
    twice: "duplicate",
    field_of_impossible_length: "corrupt",
    device_node: "device-node",
    fifo: "device-node",
    interleaved: "format",
    continued_in_itself: "loop",
    continued_outside: "truncated",
    continued_without_end: "bomb",
    no_end_of_descriptors: "corrupt",
    other_sectors: "format",
    larger_than_it_is: "truncated",
    truncated: "truncated",
    nearly_nothing: "truncated",
}


@pytest.fixture(scope="module")
def whole() -> bytes:
    return build_cd(FILES)


@pytest.mark.parametrize(("spoil", "reason"), HOSTILE.items(), ids=[each.__name__ for each in HOSTILE])
def test_a_spoilt_cd_is_refused_for_its_own_reason(
    spoil: Callable[[Spoilt], None], reason: str, whole: bytes, tmp_path: Path
) -> None:
    cd = Spoilt(whole)
    spoil(cd)
    assert refused(cd.write(tmp_path)) == reason


def test_the_same_cd_is_read_when_nobody_spoilt_it(whole: bytes, tmp_path: Path) -> None:
    assert read_medium(Spoilt(whole).write(tmp_path), LIMITS).label == "REFPLAT"


def relocated(tmp_path: Path) -> Spoilt:
    """Deeper than ISO 9660 allows: Rock Ridge has relocated a folder."""
    return Spoilt(build_cd({**PLATFORM, f"{DEEP}/x": b"x", "deep/" + DEEP + "/y": b"y"}))


def test_relocated_folders_are_read(tmp_path: Path) -> None:
    assert read_medium(relocated(tmp_path).write(tmp_path), LIMITS).label == "REFPLAT"


@pytest.mark.parametrize("where", ["root", "nowhere", "other"])
def test_relocations_in_circles_are_refused(tmp_path: Path, where: str) -> None:
    cd = relocated(tmp_path)
    fields = [at for at in range(len(cd.data) - 12) if cd.data[at : at + 4] == b"CL\x0c\x01"]
    assert len(fields) >= 2
    other = struct.unpack_from("<I", cd.data, fields[1] + 4)[0]
    root = struct.unpack_from("<I", cd.data, 16 * SECTOR + 158)[0]
    target = {"root": root, "nowhere": 3, "other": other}[where]
    cd.put(fields[0] + 4, struct.pack("<I", target) + struct.pack(">I", target))
    assert refused(cd.write(tmp_path)) == "loop"


def test_a_relocated_folder_inside_of_itself_is_refused(tmp_path: Path) -> None:
    cd = relocated(tmp_path)
    at = cd.data.index(b"CL\x0c\x01")
    child = struct.unpack_from("<I", cd.data, at + 4)[0]
    # The folder that holds the mark becomes a part of the folder that the mark is for.
    record = cd.around(at)
    inside = child * SECTOR
    while cd.data[inside]:
        inside += cd.data[inside]
    cd.put(inside, bytes(cd.data[record : record + cd.data[record]]))
    assert refused(cd.write(tmp_path)) == "loop"


def test_more_entries_than_anybody_needs_are_refused(whole: bytes, tmp_path: Path) -> None:
    assert refused(Spoilt(whole).write(tmp_path), Limits(entries=100)) == "bomb"


@pytest.mark.parametrize("target", ["parent", "self"])
def test_folders_of_joliet_in_circles_are_refused(tmp_path: Path, target: str) -> None:
    cd = Spoilt(build_cd(PLATFORM, naming="joliet"))
    outer, inner = (cd.joliet_record(name) for name in ("virl-base-images", "iosv-159-3-m8"))
    place = {"parent": outer, "self": cd.joliet_record("frr-10-0")}[target]
    cd.put(inner + 2, bytes(cd.data[place + 2 : place + 10]))
    assert refused(cd.write(tmp_path)) == "loop"


def test_longer_paths_than_anybody_needs_are_refused(tmp_path: Path) -> None:
    path = write_cd(tmp_path, {**PLATFORM, "a" * 100 + "/" + "b" * 100 + "/c": b"x"})
    assert refused(path, Limits(name=150)) == "path"
    assert read_medium(path, LIMITS).nodes


@pytest.mark.parametrize("content", [b"", b"x", b"CD001" * 10, bytes(40 * SECTOR), b"\x01CD001" * 10_000])
def test_what_is_no_cd_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.iso"
    path.write_bytes(content)
    assert refused(path) in {"format", "truncated"}


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_whatever_bits_flip_it_is_read_or_refused(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    image = bytearray(_SMALL)
    # Nearly all that matters is before the first file.
    places = st.integers(16 * SECTOR, min(len(image), 60 * SECTOR) - 1)
    for place, value in data.draw(st.dictionaries(places, st.integers(0, 255), max_size=12)).items():
        image[place] = value
    path = tmp_path_factory.getbasetemp() / "flipped.iso"
    path.write_bytes(image)
    try:
        medium = read_medium(path, LIMITS)
    except ImageRefused as error:
        assert error.details["reason"]  # noqa: PT017 - which one depends on the bits
    else:
        for entry in medium.images:
            for file in entry.files:
                assert all(offset + length <= len(image) for offset, length in file.extents)


_SMALL = build_cd(
    {
        "node-definitions/iosv.yaml": IOSV.encode(),
        "virl-base-images/a/a.yaml": image_definition("a", "iosv", "a.qcow2").encode(),
        "virl-base-images/a/a.qcow2": DISK[:3000],
        f"virl-base-images/a/{LONG}": b"x",
    }
)


# ------------------------------------------------------------------ definitions


def bomb() -> str:
    lines = ["id: bomb", "a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    return "\n".join(lines)


DEFINITIONS: dict[str, tuple[bytes, str]] = {
    "bomb": (bomb().encode(), "bomb"),
    "deep": (b"id: x\na: " + b"[" * 10_000, "bomb"),
    "wide": (b"id: x\na: [" + b"1," * 60_000 + b"]", "bomb"),
    "large": (b"id: x\nb: " + b"x" * TEXT_BYTES, "size"),
    "no text": (b"\xff\xfe\x00", "manifest"),
    "no yaml": (b"id: [", "manifest"),
    "a list": (b"- a\n- b\n", "manifest"),
    "empty": (b"", "manifest"),
    "no id": (b"ui: {label: x}\n", "manifest"),
    "path as id": (b"id: ../../etc\n", "manifest"),
    "line feed in id": (b'id: "a\\nb"\n', "manifest"),
    "line feed in title": (b'id: a\nui: {label: "a\\nb"}\n', "manifest"),
    "escape in title": (b'id: a\nui: {label: "a\\e[2J"}\n', "manifest"),
    "memory": (b"id: a\nsim: {linux_native: {ram: -5}}\n", "manifest"),
    "text for memory": (b"id: a\nsim: {linux_native: {ram: much}}\n", "manifest"),
    "ports": (b"id: a\ndevice: {interfaces: {physical: [" + b"p," * 2000 + b"]}}\n", "manifest"),
    "file name": (
        b"id: a\nconfiguration: {provisioning: {media_type: iso, files: [{name: ../x}]}}\n",
        "manifest",
    ),
    "tag": (b"!!python/object/apply:os.system [id]\n", "manifest"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "reason"), DEFINITIONS.values(), ids=DEFINITIONS)
def test_a_hostile_definition_is_kept_out_and_the_others_are_offered(text: bytes, reason: str, tmp_path: Path) -> None:
    path = write_cd(tmp_path, {**PLATFORM, "node-definitions/zz.yaml": text})
    medium = read_medium(path, LIMITS)
    assert [(item.key, item.why.reason) for item in medium.broken] == [("device:/node-definitions/zz.yaml", reason)]
    assert len(medium.nodes) == 6


@pytest.mark.parametrize("disk", ["../../../etc/passwd", "/etc/shadow", "a/b.qcow2", '"a\\nb"', ".."])
def test_an_image_names_a_file_beside_it_and_no_other(disk: str, tmp_path: Path) -> None:
    definition = f"id: evil\nnode_definition_id: iosv\ndisk_image: {disk}\n".encode()
    path = write_cd(tmp_path, {**PLATFORM, "virl-base-images/evil/evil.yaml": definition})
    medium = read_medium(path, LIMITS)
    assert [(item.title, item.why.reason) for item in medium.broken] == [("evil.yaml", "manifest")]


def test_two_definitions_of_one_name_are_one(tmp_path: Path) -> None:
    path = write_cd(tmp_path, {**PLATFORM, "node-definitions/zz.yaml": IOSV.encode()})
    assert [item.why.reason for item in read_medium(path, LIMITS).broken] == ["duplicate"]


def test_what_is_broken_is_offered_with_its_reason_and_refused_when_asked_for(tmp_path: Path) -> None:
    path = write_cd(tmp_path, {**PLATFORM, "node-definitions/zz.yaml": bomb().encode()})
    catalogue = DeviceCatalogue.load()
    offer = next(item for item in media.offers(path, catalogue, LIMITS).offers if item.title == "zz.yaml")
    assert "grows too large" in offer.problem
    with pytest.raises(ImageRefused) as caught:
        media.device(path, offer.key, catalogue, LIMITS)
    assert caught.value.details["reason"] == "bomb"


def test_what_is_shared_by_aliases_is_not_multiplied_on_the_way(tmp_path: Path) -> None:
    text = "id: a\nbig: &big " + "x" * 200_000 + "\nconfiguration: {provisioning: {media_type: iso, files: ["
    text += ", ".join(f"{{name: f{n}, content: *big}}" for n in range(32)) + "]}}\n"
    path = write_cd(tmp_path, {"node-definitions/a.yaml": text.encode()})
    assert refused_or_small(path) < LIMITS.json


def refused_or_small(path: Path) -> int:
    try:
        return len(media.read_platform(path, (), LIMITS).choices().model_dump_json())
    except ImageRefused as error:
        return len(json.dumps(error.to_wire()))


# ------------------------------------------------------------------ the process


@pytest.mark.parametrize("spoil", [loop_to_parent, overlapping, continued_in_itself], ids=lambda each: each.__name__)
def test_the_reason_comes_out_of_the_process(spoil: Callable[[Spoilt], None], whole: bytes, tmp_path: Path) -> None:
    cd = Spoilt(whole)
    spoil(cd)
    with pytest.raises(ImageRefused) as caught:
        media.offers(cd.write(tmp_path), (), LIMITS)
    assert caught.value.details["reason"] == HOSTILE[spoil]
    assert {item.name for item in tmp_path.iterdir()} == {"spoilt.iso"}


@pytest.mark.parametrize(
    ("limits", "reason"), [(Limits(memory=24 << 20), "corrupt"), (Limits(inspect_s=0.01), "unbounded")]
)
def test_a_reader_that_needs_too_much_is_ended(limits: Limits, reason: str, whole: bytes, tmp_path: Path) -> None:
    path = Spoilt(whole).write(tmp_path)
    with pytest.raises(ImageRefused) as caught:
        media.offers(path, (), limits)
    assert caught.value.details["reason"] == reason
