"""Answers kept as files. STATSVC_UPDATE_GOLDENS=1 writes them anew; look at the difference before committing it."""

import os
from pathlib import Path

FOLDER = Path(__file__).parent / "goldens"


def equals_golden(name: str, text: str, *, folded: bool = False) -> None:
    """`folded`: lines may be broken elsewhere, as argparse does from one Python to the next."""
    path = FOLDER / name
    if os.environ.get("STATSVC_UPDATE_GOLDENS"):
        FOLDER.mkdir(exist_ok=True)
        path.write_text(text)
    golden = path.read_text()
    assert (text.split() == golden.split()) if folded else (text == golden)
