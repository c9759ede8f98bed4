"""The table of questions and byte streams that an agent serves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from wireloom.fabric.capture_documents import CaptureOpen
from wireloom.fabric.documents import (
    BootsAnswer,
    BootsQuestion,
    ConsoleOpen,
    ExecAnswer,
    ExecQuestion,
    ImagesAnswer,
    ImagesQuestion,
    LinesAnswer,
    LinesQuestion,
    LogOpen,
    PostBootAnswer,
    PostBootQuestion,
    PruneAnswer,
    PruneQuestion,
    StatsAnswer,
    StatsQuestion,
)
from wireloom.fabric.image_documents import (
    ExportOpen,
    HostImagesAnswer,
    HostImagesQuestion,
    VerifyAnswer,
    VerifyQuestion,
)
from wireloom.fabric.link_documents import CountersOpen, MtuAnswer, MtuQuestion, SelfTestAnswer, SelfTestQuestion
from wireloom.fabric.move_documents import CargoAnswer, CargoQuestion
from wireloom.model.base import Value

__all__ = [
    "BOOTS",
    "CAPTURE",
    "CARGO",
    "CHECK_MTU",
    "CONSOLE",
    "COUNTERS",
    "EXEC",
    "EXPORT",
    "HOST_IMAGES",
    "IMAGES",
    "LINES",
    "LOG",
    "POST_BOOT",
    "PRUNE",
    "SELF_TEST",
    "STATS",
    "VERIFY_IMAGES",
    "Method",
    "StreamMethod",
]

Q = TypeVar("Q", bound=Value)
A = TypeVar("A", bound=Value)


@dataclass(frozen=True)
class Method(Generic[Q, A]):
    """A question with a typed answer; ``deadline_s`` is the caller's default."""

    name: str
    question: type[Q]
    answer: type[A]
    deadline_s: float = 10


@dataclass(frozen=True)
class StreamMethod(Generic[Q]):
    """A question that is answered by a byte stream."""

    name: str
    question: type[Q]


EXEC = Method("exec", ExecQuestion, ExecAnswer, deadline_s=90)
STATS = Method("stats", StatsQuestion, StatsAnswer)
POST_BOOT = Method("post-boot", PostBootQuestion, PostBootAnswer)
PRUNE = Method("prune", PruneQuestion, PruneAnswer, deadline_s=120)
IMAGES = Method("images", ImagesQuestion, ImagesAnswer)
LINES = Method("lines", LinesQuestion, LinesAnswer)
CONSOLE = StreamMethod("console", ConsoleOpen)
BOOTS = Method("boots", BootsQuestion, BootsAnswer)
LOG = StreamMethod("log", LogOpen)
COUNTERS = StreamMethod("counters", CountersOpen)
CHECK_MTU = Method("check-mtu", MtuQuestion, MtuAnswer, deadline_s=30)
SELF_TEST = Method("self-test", SelfTestQuestion, SelfTestAnswer, deadline_s=60)
CARGO = Method("cargo", CargoQuestion, CargoAnswer)
CAPTURE = StreamMethod("capture", CaptureOpen)
HOST_IMAGES = Method("host-images", HostImagesQuestion, HostImagesAnswer, deadline_s=30)
VERIFY_IMAGES = Method("verify-images", VerifyQuestion, VerifyAnswer, deadline_s=1800)
EXPORT = StreamMethod("image-export", ExportOpen)
