"""What commands on links take."""

from typing import Annotated

import typer

from wireloom.cli.completion import complete_end, complete_far_end

__all__ = ["EndA", "EndB", "TimeoutOption"]

EndA = Annotated[
    str,
    typer.Argument(metavar="A:IF", help="One end, node:interface.", autocompletion=complete_end, show_default=False),
]
EndB = Annotated[
    str,
    typer.Argument(
        metavar="B:IF|SEGMENT",
        help="The other end: node:interface, or a segment.",
        autocompletion=complete_far_end,
        show_default=False,
    ),
]
TimeoutOption = Annotated[float, typer.Option("--timeout", min=0, help="Seconds to wait at most.")]
