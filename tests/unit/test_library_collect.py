"""What nothing needs goes, and nothing else; stored files are read again, and damage is said and mended."""

from __future__ import annotations

import errno
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from catalogue_rig import BOTH, add, digest_of, entry, stored, tell
from controller_rig import Rig, make_rig, until

from wireloom.controller.library.collect import Collector
from wireloom.controller.library.library import ImageLibrary
from wireloom.controller.library.verify import LOOK_S, MEND_AGAIN_S, Verifier
from wireloom.errors import NotFound, RuntimeFailed, Unavailable
from wireloom.library.blobs import BlobStore
from wireloom.model.images import ImageState, ImageView

DAY_S = 24 * 3600.0


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with make_rig(tmp_path) as made:
        await made.add_host("h1", providers=BOTH)
        yield made


class Keeper:
    """A collector and a verifier of a rig's library, with a clock that tests turn."""

    def __init__(self, rig: Rig, *, days: float = 7) -> None:
        library: ImageLibrary = rig.controller.library
        self.library = library
        self.later_s = 0.0
        self.working_since: float | None = None
        self.tidied = 0
        self.mended: list[tuple[str, str]] = []
        self.refuses = False
        self.aside = rig.folder / "library" / "damaged"
        parts: dict[str, Any] = {"catalogue": library.catalogue, "blobs": library.blobs, "aside": self.aside}
        self.collector = Collector(
            **parts, keep_days=days, tidy=self._tidy, working_since=lambda: self.working_since, clock=self.now
        )
        self.verifier = Verifier(
            **parts, shelves=library._shelves, threads=library._threads, days=days, mend=self._mend, clock=self.now
        )
        library.catalogue._clock = self.now

    def now(self) -> float:
        return time.time() + 1 + self.later_s

    async def _tidy(self) -> None:
        self.tidied += 1

    async def _mend(self, image: ImageView, host: str) -> None:
        self.mended.append((image.name, host))
        if self.refuses:
            raise Unavailable("not now")

    async def collected(self, **changes: Any) -> set[str]:
        return set((await self.collector.collect(**{"dry_run": False, **changes})).removed)


def spoil(rig: Rig, image: ImageView) -> None:
    """Change bytes of an image's stored file, as a disk does."""
    file = rig.controller.library.blobs.path(image.digest)
    file.chmod(0o644)
    file.write_bytes(b"x" * image.size)


# -------------------------------------------------------------------- collecting


async def test_files_of_no_image_go_and_those_of_images_stay(rig: Rig) -> None:
    keeper, image = Keeper(rig), await add(rig, "box:1")
    stray = stored(rig, "stray:1", b"stray").digest
    view = await keeper.collector.collect(dry_run=True)
    assert (view.removed, view.size) == ((stray,), len(b"stray"))
    assert keeper.library.blobs.has(stray)
    assert await keeper.collected() == {stray}
    assert (keeper.library.blobs.has(stray), keeper.library.blobs.has(image.digest)) == (False, True)
    assert await keeper.collected() == set()


async def test_by_itself_only_what_is_old_goes(rig: Rig) -> None:
    keeper, stray = Keeper(rig), stored(rig, "stray:1").digest
    assert await keeper.collected(older_than_s=7 * DAY_S) == set()
    keeper.later_s = 8 * DAY_S
    assert await keeper.collected(older_than_s=7 * DAY_S) == {stray}


async def test_what_a_job_may_have_brought_stays_while_it_works(rig: Rig) -> None:
    keeper = Keeper(rig)
    keeper.working_since = time.time() - 60
    stray = stored(rig, "stray:1").digest
    assert await keeper.collected() == set()
    keeper.working_since = None
    assert await keeper.collected() == {stray}


async def test_an_image_that_comes_in_the_last_moment_keeps_its_file(rig: Rig) -> None:
    keeper = Keeper(rig)
    new = stored(rig, "box:1")
    found = keeper.collector._unneeded()
    await keeper.library.catalogue.add(new)
    assert [await keeper.collector._remove(item) for item in found] == [False]
    assert keeper.library.blobs.has(new.digest)


async def test_drafts_and_files_that_were_set_aside_go_too(rig: Rig) -> None:
    keeper = Keeper(rig)
    keeper.library.blobs.draft("half").path.write_bytes(b"half")
    keeper.aside.mkdir(exist_ok=True)
    (keeper.aside / "spoilt").write_bytes(b"spoilt")
    assert await keeper.collected() == {"half", "spoilt"}
    assert list(keeper.aside.iterdir()) == []


async def test_what_a_kill_left_half_in_the_store_goes_with_the_next_start(tmp_path: Path) -> None:
    async with make_rig(tmp_path) as rig:
        file = rig.controller.library.blobs.path(digest_of(b"half"))
        file.parent.mkdir()
        half = file.with_name(f".new-{file.name}-0a1b2c3d")
        half.write_bytes(b"ha")
        await rig.restart()
        assert not half.exists()


async def test_a_user_who_collects_has_others_tidy_up_too_but_not_when_trying_out(rig: Rig) -> None:
    keeper = Keeper(rig)
    await keeper.collected(dry_run=True)
    assert keeper.tidied == 0
    await keeper.collected()
    assert keeper.tidied == 1


# -------------------------------------------------------------------- verification


async def test_a_file_is_read_again_when_its_time_has_come(rig: Rig) -> None:
    keeper, image = Keeper(rig), await add(rig, "box:1")
    await keeper.verifier.look()
    assert keeper.library.catalogue.get(image.id).verified_at == image.verified_at
    keeper.later_s = 8 * DAY_S
    await keeper.verifier.look()
    view = keeper.library.catalogue.get(image.id)
    assert view.state is ImageState.READY
    assert view.verified_at > image.verified_at + 7 * DAY_S


async def test_never_means_never(rig: Rig) -> None:
    keeper, image = Keeper(rig, days=0), await add(rig, "box:1")
    spoil(rig, image)
    keeper.later_s = 1000 * DAY_S
    await keeper.verifier.look()
    assert keeper.library.catalogue.get(image.id).state is ImageState.READY


async def test_changed_bytes_are_found_said_and_set_aside(rig: Rig) -> None:
    keeper, image, twin = Keeper(rig), await add(rig, "box:1"), await add(rig, "twin:1")
    spoil(rig, image)
    assert not await keeper.verifier.check(image.id)
    for name in ("box:1", "twin:1"):
        view = keeper.library.catalogue.named(name)
        assert view is not None
        assert view.state is ImageState.DAMAGED
        assert "bytes have changed" in (view.problem or {})["message"]
    assert not keeper.library.blobs.has(twin.digest)
    assert [file.name for file in keeper.aside.iterdir()] == [image.digest.removeprefix("sha256:")]
    journal = rig.controller.journal
    await until(lambda: any("bytes have changed" in event.message for event in journal.recent()))


async def test_a_file_that_is_gone_or_cut_off_is_found_at_once(rig: Rig) -> None:
    keeper = Keeper(rig, days=0)
    gone, short = await add(rig, "gone:1", b"gone"), await add(rig, "short:1", b"short")
    keeper.library.blobs.path(gone.digest).unlink()
    file = keeper.library.blobs.path(short.digest)
    file.chmod(0o644)
    file.write_bytes(b"s")
    await keeper.verifier.look()
    problems = {image.name: (image.problem or {})["message"] for image in keeper.library.catalogue.all()}
    assert problems == {
        "gone:1": "its file is gone from the library",
        "short:1": "its file has 1 bytes and should have 5",
    }


@pytest.mark.parametrize(("number", "state"), [(errno.EIO, ImageState.DAMAGED), (errno.EMFILE, ImageState.READY)])
async def test_a_file_that_cannot_be_read_is_damaged_only_where_the_disk_says_so(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, number: int, state: ImageState
) -> None:
    keeper, image = Keeper(rig), await add(rig, "box:1")
    keeper.later_s = 8 * DAY_S

    def refused(*_: Any) -> bool:
        raise OSError(number, "no")

    monkeypatch.setattr(BlobStore, "verify", refused)
    await keeper.verifier.look()
    assert keeper.library.catalogue.get(image.id).state is state
    assert keeper.library.blobs.has(image.digest) == (state is ImageState.READY)
    if state is ImageState.READY:
        with pytest.raises(RuntimeFailed, match="cannot be read: no"):
            await keeper.verifier.check(image.id)


async def test_checking_says_how_far_it_is_and_can_be_ended(rig: Rig) -> None:
    keeper, image = Keeper(rig), await add(rig, "box:1")
    told: list[tuple[int, int]] = []
    assert await keeper.verifier.check(image.id, lambda done, total: told.append((done, total)))
    assert told[-1] == (image.size, image.size)
    with pytest.raises(NotFound):
        await keeper.verifier.check("0")


async def test_a_host_that_has_it_whole_is_asked_for_it(rig: Rig) -> None:
    keeper, image = Keeper(rig), await add(rig, "box:1")
    await tell(rig, "h1", entry(image))
    keeper.refuses = True
    spoil(rig, image)
    await keeper.verifier.check(image.id)
    assert keeper.mended == [("box:1", "h1")]
    await keeper.verifier.look()
    assert len(keeper.mended) == 1  # not again at once
    keeper.later_s = MEND_AGAIN_S + LOOK_S
    await keeper.verifier.look()
    assert len(keeper.mended) == 2
    # What the host sends is taken up as the image that it was, under whatever digest it comes.
    again = await keeper.library.catalogue.add(stored(rig, "box:1", b"packed anew", content=image.content))
    assert (again.id, again.state, again.digest) == (image.id, ImageState.READY, digest_of(b"packed anew"))


async def test_without_such_a_host_it_stays_damaged_until_one_comes(rig: Rig) -> None:
    keeper, image = Keeper(rig), await add(rig, "box:1")
    spoil(rig, image)
    await keeper.verifier.check(image.id)
    assert keeper.mended == []
    await tell(rig, "h1", entry(image))
    await until(lambda: keeper.library.catalogue.get(image.id).presence)
    await keeper.verifier.mend_all()
    assert keeper.mended == [("box:1", "h1")]
