"""How far a command has got, on one line of a terminal. Elsewhere it says nothing."""

import shutil
import sys
import time
from typing import TextIO

BAR = 20
LEAST_SECONDS = 0.1
"""Between two drawings."""


class Progress:
    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._drawn = 0.0
        self.shown = self._stream.isatty()

    def __call__(self, text: str, fraction: float) -> None:
        """Show `text` beside a bar that is filled to `fraction`, from 0 to 1."""
        now = time.monotonic()
        if not self.shown or now - self._drawn < LEAST_SECONDS:
            return
        self._drawn = now
        full = round(BAR * min(1.0, max(0.0, fraction)))
        line = f"[{'#' * full}{'.' * (BAR - full)}] {fraction:4.0%}  {text}"
        width = shutil.get_terminal_size().columns - 1
        self._stream.write(f"\r{line[:width]}\x1b[K")
        self._stream.flush()

    def clear(self) -> None:
        """Take the line away, for what is printed next."""
        if self.shown and self._drawn:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
