"""Blobs by digest, and drafts that go on where they were."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import time
from pathlib import Path

import pytest

from wireloom.errors import CapacityExceeded, Conflict, InvalidInput, NotFound
from wireloom.library import blobs, durable
from wireloom.library.blobs import BlobStore, file_digest

CONTENT = b"a disk\n" * 1000
DIGEST = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "library")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "incoming"
    path.write_bytes(CONTENT)
    return path


def files_of(store: BlobStore) -> list[Path]:
    return [path for path in store.folder.rglob("*") if path.is_file()]


def test_a_blob_is_found_by_its_digest_and_nobody_may_write_it(store: BlobStore, file: Path) -> None:
    path = store.adopt(file, DIGEST, move=True)
    assert path == store.folder / "sha256" / DIGEST[7:9] / DIGEST[7:]
    assert path.read_bytes() == CONTENT
    assert stat.S_IMODE(path.stat().st_mode) == 0o444
    assert stat.S_IMODE(store.folder.stat().st_mode) == 0o700
    assert (store.has(DIGEST), store.size(DIGEST), file.exists()) == (True, len(CONTENT), False)
    assert [each[:2] for each in store.all()] == [(DIGEST, len(CONTENT))]


def test_adopting_twice_is_no_error_and_leaves_one_file(store: BlobStore, file: Path) -> None:
    store.adopt(file, DIGEST, move=False)
    store.adopt(file, DIGEST, move=True)
    assert not file.exists()
    assert len(files_of(store)) == 1


def test_a_file_that_may_change_is_copied_and_one_that_may_not_is_shared(
    store: BlobStore, file: Path, tmp_path: Path
) -> None:
    copy = store.adopt(file, DIGEST, move=False)
    file.write_bytes(b"changed")
    assert copy.read_bytes() == CONTENT
    other = BlobStore(tmp_path / "agent")
    assert other.adopt(copy, DIGEST, move=False).samefile(copy)


def test_a_file_of_another_file_system_is_copied(store: BlobStore, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object, **_options: object) -> None:
        raise OSError(errno.EXDEV, "another file system")

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(os, "copy_file_range", refuse)
    assert store.adopt(file, DIGEST, move=True).read_bytes() == CONTENT
    assert not file.exists()


def test_a_full_disk_is_told_and_leaves_nothing(store: BlobStore, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_arguments: object) -> int:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(durable, "_clone", lambda *_files: False)
    monkeypatch.setattr(os, "copy_file_range", full)
    with pytest.raises(CapacityExceeded):
        store.adopt(file, DIGEST, move=False)
    assert files_of(store) == []
    assert file.exists()


def test_a_cancelled_copy_leaves_nothing(store: BlobStore, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cancel(_done: int, _total: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(durable, "_clone", lambda *_files: False)
    with pytest.raises(KeyboardInterrupt):
        store.adopt(file, DIGEST, move=False, progress=cancel)
    assert files_of(store) == []


def test_links_and_folders_are_no_blobs(store: BlobStore, file: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(file)
    for path in (link, tmp_path):
        with pytest.raises(InvalidInput):
            store.adopt(path, DIGEST, move=True)
    assert files_of(store) == []
    assert file.exists()


def test_a_changed_byte_is_found(store: BlobStore, file: Path) -> None:
    path = store.adopt(file, DIGEST, move=True)
    assert store.verify(DIGEST)
    path.chmod(0o600)
    path.write_bytes(b"b" + CONTENT[1:])
    assert not store.verify(DIGEST)


def test_what_is_not_there_is_said_so(store: BlobStore) -> None:
    assert not store.has(DIGEST)
    store.remove(DIGEST)
    for ask in (store.size, store.verify):
        with pytest.raises(NotFound):
            ask(DIGEST)


@pytest.mark.parametrize("digest", ["sha256:", "sha256:../../etc/passwd", "md5:" + "0" * 32, DIGEST.upper(), ""])
def test_what_is_no_digest_names_no_file(store: BlobStore, digest: str) -> None:
    with pytest.raises(InvalidInput):
        store.path(digest)


@pytest.mark.parametrize("key", ["", "..", "../x", "a/b", ".hidden", "x" * 300, "a\n"])
def test_what_is_no_file_name_names_no_draft(store: BlobStore, key: str) -> None:
    with pytest.raises(InvalidInput):
        store.draft(key)


def test_a_draft_goes_on_where_it_was_and_becomes_a_blob(store: BlobStore) -> None:
    draft = store.draft("upload-1")
    assert draft.length() == 0
    with draft.open_append() as out:
        out.write(CONTENT[:100])
    again = BlobStore(store.folder).draft("upload-1")
    assert again.length() == 100
    digest = again.digest_so_far()
    with again.open_append() as out:
        out.write(CONTENT[100:])
    digest.update(CONTENT[100:])
    assert [each[:2] for each in store.drafts()] == [("upload-1", len(CONTENT))]
    assert again.commit(f"sha256:{digest.hexdigest()}") == store.path(DIGEST)
    assert (store.verify(DIGEST), list(store.drafts())) == (True, [])


def test_a_draft_has_one_writer(store: BlobStore) -> None:
    draft = store.draft("upload-1")
    with draft.open_append(), pytest.raises(Conflict):
        draft.open_append()
    draft.open_append().close()


def test_a_draft_can_be_given_up_twice(store: BlobStore) -> None:
    draft = store.draft("upload-1")
    draft.open_append().close()
    draft.discard()
    draft.discard()
    assert list(store.drafts()) == []
    assert draft.digest_so_far().hexdigest() == hashlib.sha256().hexdigest()


def test_what_a_crash_left_is_no_blob_and_is_swept(store: BlobStore, file: Path) -> None:
    path = store.adopt(file, DIGEST, move=True)
    left = path.with_name(f"{blobs._COMING}{path.name}-1234")
    left.write_bytes(b"half")
    assert [each[0] for each in store.all()] == [DIGEST]
    assert store.sweep(older_than=left.stat().st_ctime - 1) == 0
    assert store.sweep(older_than=time.time() + 1) == 1
    assert files_of(store) == [path]


def test_a_digest_is_told_while_it_grows(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durable, "_STEP", 1)
    told: list[tuple[int, int]] = []
    assert file_digest(file, lambda done, total: told.append((done, total))) == DIGEST
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert file_digest(file, algorithm="md5") == f"md5:{hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()}"


def test_the_free_space_is_of_the_folder(store: BlobStore) -> None:
    assert store.free() > 0
