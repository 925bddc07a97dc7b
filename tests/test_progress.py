import io
import os
import pty
from collections.abc import Callable

from statsvc.progress import Progress


def on_a_terminal(work: Callable[[Progress], None]) -> str:
    """What a terminal gets to see."""
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal:
        work(Progress(terminal))
    seen = b""
    try:
        while part := os.read(ours, 10_000):
            seen += part
    except OSError:  # how a terminal says that nobody writes to it any more
        pass
    finally:
        os.close(ours)
    return seen.decode()


def test_a_terminal_sees_a_bar_that_is_drawn_over_and_taken_away():
    """One line, at most as wide as the terminal."""

    def work(progress: Progress) -> None:
        progress("copying " + "x" * 500, 0.5)
        progress.clear()

    said = on_a_terminal(work)
    assert said.startswith("\r[##########..........]  50%  copying")
    assert said.endswith("\r\x1b[K")
    assert len(said) < 200
    assert "\n" not in said


def test_what_is_no_terminal_sees_nothing():
    """A log file isn't filled with bars."""
    stream = io.StringIO()
    progress = Progress(stream)
    progress("copying", 0.5)
    progress.clear()
    assert stream.getvalue() == ""


def test_it_is_drawn_some_times_a_second():
    """Not for each row that is copied."""

    def work(progress: Progress) -> None:
        for step in range(1000):
            progress("copying", step / 1000)

    assert on_a_terminal(work).count("\r") < 10
