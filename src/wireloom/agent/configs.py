"""Everything an agent has to do with configurations, joined: reading, loading, holding, the hook, the questions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from wireloom.agent.actions import Actions
from wireloom.agent.channels import Channels
from wireloom.agent.channels.file import Parser
from wireloom.agent.config_questions import ConfigQuestions, ReadyBoots
from wireloom.agent.extraction import Extraction
from wireloom.agent.folder import FolderStore
from wireloom.agent.held_configs import HeldConfigs
from wireloom.agent.hooks.configs import ConfigsHook, Tell
from wireloom.agent.reconciler import Reconciler
from wireloom.agent.world import now
from wireloom.configs import parse_iol_nvram
from wireloom.model.runtime import RuntimeStatus
from wireloom.model.state import Readiness

__all__ = ["PARSERS", "NodeConfigs"]

#: How files that are no text become text, by the name that device files use.
PARSERS: Final[Mapping[str, Parser]] = MappingProxyType({"iol-nvram": parse_iol_nvram})


class NodeConfigs:
    """:param runtime: a node's runtime as it is known now. ``tell`` adds a line to the history."""

    def __init__(
        self,
        *,
        channels: Channels,
        folders: FolderStore,
        runtime: Callable[[str], RuntimeStatus | None],
        tell: Tell,
    ) -> None:
        self._folders = folders
        self._extraction = Extraction(channels, now)
        self._boots = ReadyBoots(runtime)
        self._held = HeldConfigs(folders)
        self.hook = ConfigsHook(self._extraction, folders, self._held, self._boots.is_ready, tell)

    def load(self) -> None:
        """See what an earlier agent left, after the folders were loaded."""
        self._held.load()

    def held(self, node_id: str) -> str:
        """Hash of the configuration that waits for the controller; empty when none does."""
        return self._held.waiting(node_id)

    def note_readiness(self, node_id: str, readiness: Readiness) -> None:
        """The readiness watch found out something."""
        self._boots.note(node_id, readiness)

    def questions(self, reconciler: Reconciler, actions: Actions) -> ConfigQuestions:
        """The handlers of what others may ask."""
        return ConfigQuestions(
            reconciler=reconciler,
            actions=actions,
            extraction=self._extraction,
            folders=self._folders,
            held=self._held,
            boots=self._boots,
        )
