"""Questions and answers of a remote provider: one row for each verb of the provider contract."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import Field

from wireloom.fabric.methods import Method, StreamMethod
from wireloom.model.attachment import Attachment
from wireloom.model.base import Value
from wireloom.model.images import ImageFormat
from wireloom.model.runtime import (
    Boot,
    Capabilities,
    ConsoleRequest,
    ExecResult,
    ImageInfo,
    RuntimeSpec,
    RuntimeStats,
    RuntimeStatus,
)
from wireloom.model.slice import PortIntent
from wireloom.providers.contract import Health

__all__ = ["ProviderMethods", "for_provider"]

Q = TypeVar("Q", bound=Value)
A = TypeVar("A", bound=Value)

#: For what reads or writes whole images, which may also be the first look at one.
_TRANSFER_S: Final = 7500.0


class Nothing(Value):
    """No question, or no answer but that it is done."""


class SelfDescription(Value):
    """What a provider is before it is asked anything; ``carrier``, ``files``, …: it has that ability.

    :ivar image_format: of the files that its images are loaded from.
    """

    name: str
    settings_schema: dict[str, Any]
    carrier: bool
    files: bool
    health: bool
    recent: bool = False
    saver: bool = False
    image_format: ImageFormat = "docker-archive"


class CallRef(Value):
    """A call of a caller that left; ``call`` is the caller's own name for it."""

    call: str


class RuntimeRef(Value):
    runtime_id: str


class ObserveQuestion(Value):
    runtime_id: str | None = None


class ObserveAnswer(Value):
    statuses: tuple[RuntimeStatus, ...] = ()


class CreateQuestion(Value):
    call: str
    spec: RuntimeSpec


class StopQuestion(Value):
    runtime_id: str
    grace_s: float


class AttachmentQuestion(Value):
    runtime_id: str
    port: PortIntent


class AttachmentAnswer(Value):
    attachment: Attachment | None = None


class ExecInRuntime(Value):
    call: str
    runtime_id: str
    command: tuple[str, ...]
    timeout_s: float
    stdin: bytes = b""


class CarrierQuestion(Value):
    runtime_id: str
    carriers: dict[int, bool]


class FileQuestion(Value):
    runtime_id: str
    path: str


class FileAnswer(Value):
    content: bytes


class RecentQuestion(Value):
    runtime_id: str
    line: int
    size: int


class HealthAnswer(Value):
    health: Health


class ImageQuestion(Value):
    image: str


class LoadQuestion(Value):
    """``source``: a file on the serving host. Credentials are for a pull; empty: none."""

    image: str
    source: Path | None = None
    content: str = ""
    username: str = ""
    password: str = Field(default="", repr=False)


class ExportQuestion(Value):
    """``target``: a new file on the serving host."""

    image: str
    target: Path


class SaveQuestion(Value):
    """``target``: a new file on the serving host."""

    runtime_id: str
    target: Path


class FoundImageAnswer(Value):
    image: ImageInfo | None = None


class PresenceAnswer(Value):
    present: bool


class ImageAnswer(Value):
    image: ImageInfo


class ImagesAnswer(Value):
    images: tuple[ImageInfo, ...] = ()


class ConsoleQuestion(Value):
    runtime_id: str
    request: ConsoleRequest


class LogQuestion(Value):
    runtime_id: str
    follow: bool = False
    boot: int = 0


class BootsAnswer(Value):
    boots: tuple[Boot, ...]


@dataclass(frozen=True)
class ProviderMethods:
    """The table for one provider; deadlines are above those that providers keep themselves."""

    describe: Method[Nothing, SelfDescription]
    capabilities: Method[Nothing, Capabilities]
    observe: Method[ObserveQuestion, ObserveAnswer]
    create: Method[CreateQuestion, RuntimeRef]
    start: Method[RuntimeRef, Nothing]
    release: Method[RuntimeRef, Nothing]
    stop: Method[StopQuestion, Nothing]
    destroy: Method[RuntimeRef, Nothing]
    attachment: Method[AttachmentQuestion, AttachmentAnswer]
    exec: Method[ExecInRuntime, ExecResult]
    stats: Method[RuntimeRef, RuntimeStats]
    cancel: Method[CallRef, Nothing]
    set_carrier: Method[CarrierQuestion, Nothing]
    file_read: Method[FileQuestion, FileAnswer]
    health: Method[RuntimeRef, HealthAnswer]
    recent: Method[RecentQuestion, FileAnswer]
    save: Method[SaveQuestion, Nothing]
    image_has: Method[ImageQuestion, PresenceAnswer]
    image_info: Method[ImageQuestion, FoundImageAnswer]
    image_load: Method[LoadQuestion, ImageAnswer]
    image_verify: Method[ImageQuestion, ImageAnswer]
    image_export: Method[ExportQuestion, Nothing]
    image_remove: Method[ImageQuestion, Nothing]
    image_list: Method[Nothing, ImagesAnswer]
    console: StreamMethod[ConsoleQuestion]
    boots: Method[RuntimeRef, BootsAnswer]
    boot_log: StreamMethod[LogQuestion]
    watch: StreamMethod[Nothing]


def for_provider(provider: str) -> ProviderMethods:
    """The rows under which a provider of that name is served."""

    def row(verb: str, question: type[Q], answer: type[A], deadline_s: float = 30) -> Method[Q, A]:
        return Method(f"provider.{provider}.{verb}", question, answer, deadline_s)

    def stream(verb: str, question: type[Q]) -> StreamMethod[Q]:
        return StreamMethod(f"provider.{provider}.{verb}", question)

    return ProviderMethods(
        describe=row("describe", Nothing, SelfDescription),
        capabilities=row("capabilities", Nothing, Capabilities),
        observe=row("observe", ObserveQuestion, ObserveAnswer, 60),
        create=row("create", CreateQuestion, RuntimeRef, 120),
        start=row("start", RuntimeRef, Nothing, 120),
        release=row("release", RuntimeRef, Nothing),
        stop=row("stop", StopQuestion, Nothing, 60),
        destroy=row("destroy", RuntimeRef, Nothing, 120),
        attachment=row("attachment", AttachmentQuestion, AttachmentAnswer),
        exec=row("exec", ExecInRuntime, ExecResult),
        stats=row("stats", RuntimeRef, RuntimeStats),
        cancel=row("cancel", CallRef, Nothing, 60),
        set_carrier=row("set_carrier", CarrierQuestion, Nothing),
        file_read=row("file_read", FileQuestion, FileAnswer, 60),
        health=row("health", RuntimeRef, HealthAnswer, 90),
        recent=row("recent", RecentQuestion, FileAnswer),
        save=row("save", SaveQuestion, Nothing, _TRANSFER_S),
        image_has=row("image_has", ImageQuestion, PresenceAnswer),
        image_info=row("image_info", ImageQuestion, FoundImageAnswer, _TRANSFER_S),
        image_load=row("image_load", LoadQuestion, ImageAnswer, _TRANSFER_S),
        image_verify=row("image_verify", ImageQuestion, ImageAnswer, _TRANSFER_S),
        image_export=row("image_export", ExportQuestion, Nothing, _TRANSFER_S),
        image_remove=row("image_remove", ImageQuestion, Nothing, 60),
        image_list=row("image_list", Nothing, ImagesAnswer, _TRANSFER_S),
        console=stream("console", ConsoleQuestion),
        boots=row("boots", RuntimeRef, BootsAnswer),
        boot_log=stream("boot_log", LogQuestion),
        watch=stream("watch", Nothing),
    )
