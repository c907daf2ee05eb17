"""Standard streams that may be closed, redirected, full or ASCII-only: what is written where, and what to do then.

Data goes to standard output, everything else to standard error. Losing standard error loses messages, never a
result; losing standard output is an error with its own exit code.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Literal, TextIO

from extract.errors import OutputError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

Color = Literal["auto", "always", "never"]

_PLAIN = str.maketrans({"✓": "*", "·": "-", "–": "-", "…": "...", "≤": "<=", "²": "2", "→": "->"})
_DECORATION = "✓·–…≤→"


def open_missing() -> None:
    """Point closed standard descriptors at the null device, so that no file opened later takes their number."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            # for child processes too: one without a standard error does not come up
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - lives as long as the process
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def wants_color(stream: TextIO, color: Color) -> bool:
    """Say whether to write escape codes: as asked, else only to a terminal that is not dumb, without NO_COLOR."""
    if color != "auto":
        return color == "always"
    is_terminal = bool(getattr(stream, "isatty", lambda: False)())
    return is_terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def console(stream: TextIO, color: Color) -> Console:
    """Return a rich console that writes escape codes only where they are wanted and never wraps or highlights."""
    from rich.console import Console

    colored = wants_color(stream, color)
    return Console(
        file=stream,
        force_terminal=colored,
        no_color=not colored,
        color_system="standard" if colored else None,
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=True,
    )


def encodable(text: str, stream: TextIO) -> str:
    """Return the text with its decoration spelled in ASCII where the stream's encoding lacks it."""
    try:
        _DECORATION.encode(getattr(stream, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return text.translate(_PLAIN)
    return text


def write_data(data: bytes) -> None:
    """Write bytes to standard output and flush them.

    Raises:  BrokenPipeError if the reader has gone; OutputError if they cannot be written.
    """
    stream = sys.stdout
    if stream is None:
        raise OutputError("standard output is closed, expected somewhere to write the result")
    try:
        buffer = getattr(stream, "buffer", None)
        if buffer is None:
            stream.write(data.decode("utf-8"))
        else:
            stream.flush()
            buffer.write(data)
        stream.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"standard output cannot be written: {error.strerror}") from error


def write_lines(lines: list[Text], color: Color) -> None:
    """Write styled lines to standard output.

    Raises:  BrokenPipeError if the reader has gone; OutputError if they cannot be written.
    """
    if sys.stdout is None:
        raise OutputError("standard output is closed, expected somewhere to write the result")
    screen = console(sys.stdout, color)
    with screen.capture() as captured:
        for line in lines:
            screen.print(line)
    text = encodable(captured.get(), sys.stdout)
    write_data(text.encode(getattr(sys.stdout, "encoding", None) or "utf-8", errors="backslashreplace"))


def say(line: str) -> None:
    """Write one line to standard error; a lost standard error is nobody's failure."""
    with suppress(OSError, ValueError):
        sys.stderr.write(encodable(line, sys.stderr) + "\n")
        sys.stderr.flush()


def abandon() -> None:
    """Point what cannot be written any more at the null device, so that nothing fails again on the way out."""
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            with suppress(OSError, ValueError):
                os.dup2(null, stream.fileno())
    os.close(null)
