"""What every provider that carries nodes to other hosts must keep."""

from __future__ import annotations

import shutil
from typing import Final

from wireloom.errors import Conflict
from wireloom.model.state import RuntimePhase
from wireloom.testing.conformance.provider_rig import Rig, expect

__all__ = ["check_node_carried"]

_WRITTEN: Final = b"written before the move\n"


async def check_node_carried(rig: Rig) -> None:
    """What a guest has written is there when its folder goes on elsewhere; packing may be cut off and done again."""
    porter = rig.provider.abilities.porter
    assert rig.capabilities.moves
    if porter is None:
        return  # it is reached from another process, which does not carry
    spec = rig.spec()
    async with rig.created(spec) as runtime_id:
        await porter.pack(runtime_id, spec.folder)
        await rig.boot(runtime_id)
        await expect(Conflict, porter.pack(runtime_id, spec.folder))
        await rig.harness.write_file(rig.provider, runtime_id, "written", _WRITTEN)
        await rig.provider.stop(runtime_id, 5)
        await porter.pack(runtime_id, spec.folder)
        facts = await porter.pack(runtime_id, spec.folder)
        await rig.expect_phase(runtime_id, RuntimePhase.EXITED)
        elsewhere = rig.folder / "elsewhere"
        elsewhere.mkdir()
        shutil.copytree(spec.folder / "storage", elsewhere / "storage")
    shutil.rmtree(spec.folder)
    for _ in range(2):
        await porter.settle(elsewhere, spec.image, facts)
    moved = spec.model_copy(update={"folder": elsewhere})
    async with rig.created(moved) as runtime_id:
        for _ in range(2):
            await porter.unpack(runtime_id, elsewhere)
        await rig.boot(runtime_id)
        assert await rig.harness.read_file(rig.provider, runtime_id, "written") == _WRITTEN
