"""The write-ahead log, looked at before SQLite opens it.

SQLite takes the log's first page that is not sound for its end: right where a crash tore what nobody was
told of, and silent where a disk damaged what was acknowledged. The index beside it (`-shm`) says how many
pages were committed, and is written after they are on disk: so the log never holds fewer, unless damaged.

The formats: https://www.sqlite.org/walformat.html.
"""

import struct
from pathlib import Path
from typing import NamedTuple

from statsvc.errors import StoreDamaged

INDEX_HEADER = struct.Struct("=8xIBBHI4x8x8s8x")
INDEX_BYTES = 2 * INDEX_HEADER.size + 4
LOG_HEADER_BYTES, FRAME_HEADER_BYTES = 32, 24
BIG_ENDIAN_WORDS = 0x377F0683
LITTLE_ENDIAN_WORDS = 0x377F0682
WORD = 0xFFFFFFFF


class Committed(NamedTuple):
    """What the index says of the log."""

    pages: int
    salt: bytes
    """Names this filling of the log; the next begins at its start with another."""


class Loss(NamedTuple):
    committed: int
    """Pages."""
    readable: int


def committed(index: Path) -> Committed | None:
    """None where the index says nothing, or that all of the log is in the database already."""
    try:
        with index.open("rb") as file:
            header = file.read(INDEX_BYTES)
    except FileNotFoundError:
        return None
    size = INDEX_HEADER.size
    if len(header) < INDEX_BYTES or header[:size] != header[size : 2 * size]:
        return None
    _, is_init, _, _, pages, salt = INDEX_HEADER.unpack_from(header)
    (in_database,) = struct.unpack_from("=I", header, 2 * size)
    if (
        not is_init
        or pages <= in_database
        or _checksum(header[: size - 8], "=", 0, 0) != struct.unpack("=II", header[size - 8 : size])
    ):
        return None
    return Committed(pages, salt)


def refuse_damaged_log(database: Path) -> None:
    """Raises StoreDamaged, with a sentence, where what was committed can't be read any more. Only looks."""
    lost = loss(database)
    if lost is not None:
        raise StoreDamaged(
            f"{database}-wal, which holds what was counted last, is damaged: of {lost.committed:,} pages"
            f" {lost.readable:,} can be read. It was left as it is: put {database.name} aside, with its -wal"
            " and -shm, and restore a backup to this path; or remove only the -shm to go on without what"
            " can't be read."
        )


def loss(database: Path) -> Loss | None:
    """What was committed and can't be read from the log any more; None where nothing is lost."""
    log, index = (database.with_name(database.name + end) for end in ("-wal", "-shm"))
    wanted = committed(index)
    if wanted is None:
        return None
    readable = _readable(log, wanted)
    # Where they differ now, a running process has begun the log anew meanwhile.
    return Loss(wanted.pages, readable) if readable < wanted.pages and committed(index) == wanted else None


def _readable(log: Path, wanted: Committed) -> int:
    """How many of the wanted pages are sound, from the first on."""
    try:
        file = log.open("rb")
    except FileNotFoundError:
        return 0
    with file:
        header = file.read(LOG_HEADER_BYTES)
        if len(header) < LOG_HEADER_BYTES:
            return 0
        magic, _, page_bytes, _ = struct.unpack_from(">IIII", header)
        if magic not in (BIG_ENDIAN_WORDS, LITTLE_ENDIAN_WORDS):
            return 0
        order = ">" if magic == BIG_ENDIAN_WORDS else "<"
        sums = _checksum(header[:24], order, 0, 0)
        if header[16:24] != wanted.salt or struct.unpack_from(">II", header, 24) != sums:
            return 0
        for number in range(wanted.pages):
            frame = file.read(FRAME_HEADER_BYTES + page_bytes)
            if len(frame) < FRAME_HEADER_BYTES + page_bytes or frame[8:16] != wanted.salt:
                return number
            sums = _checksum(frame[:8] + frame[FRAME_HEADER_BYTES:], order, *sums)
            if struct.unpack_from(">II", frame, 16) != sums:
                return number
    return wanted.pages


def _checksum(data: bytes, order: str, first: int, second: int) -> tuple[int, int]:
    words = iter(struct.unpack(f"{order}{len(data) // 4}I", data))
    for even, odd in zip(words, words, strict=True):
        first = (first + even + second) & WORD
        second = (second + odd + first) & WORD
    return first, second
