"""A batch's counts as the text that every store's own SQL folds into its tables."""

from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from statsvc.model import Peak
from statsvc.ports import Batch
from statsvc.tally import DayKey, Tally


def as_json(batch: Batch) -> str:
    """An object of arrays, one for each table; their elements are the key's parts, then the counts."""
    return _text(_tables(batch.tally, batch.tally.newcomers.items()) | {"receipts": batch.receipts})


def as_texts(tally: Tally, receipts: Sequence[int]) -> dict[str, str]:
    """The same arrays, each as a text of its own; an audience's newcomers are a text within theirs."""
    newcomers = ((key, _text(visitors)) for key, visitors in tally.newcomers.items())
    tables = _tables(tally, newcomers) | {"receipts": receipts}
    return {table: _text(rows) for table, rows in tables.items()}


def of_json(text: str) -> tuple[Tally, list[int]]:
    """The tally and the receipts that `as_json` was given. Raises ValueError."""
    rows = orjson.loads(text)
    tally = Tally(
        hours={(site, hour, bot): counts for site, hour, bot, *counts in rows["hours"]},
        days={(site, day, bot): counts for site, day, bot, *counts in rows["days"]},
        pages={(site, day, path): counts for site, day, path, *counts in rows["pages"]},
        names={(site, day, bot, name): events for site, day, bot, name, events in rows["names"]},
        newcomers={(site, day, bot): visitors for site, day, bot, visitors in rows["newcomers"]},
        peaks={(site, day): Peak(*peak) for site, day, *peak in rows["peaks"]},
    )
    return tally, rows["receipts"]


def _tables(tally: Tally, newcomers: Iterable[tuple[DayKey, object]]) -> dict[str, Sequence[Any]]:
    return {
        "hours": [[*key, *counts] for key, counts in tally.hours.items()],
        "days": [[*key, *counts] for key, counts in tally.days.items()],
        "pages": [[*key, *counts] for key, counts in tally.pages.items()],
        "names": [[*key, events] for key, events in tally.names.items()],
        "newcomers": [[*key, visitors] for key, visitors in newcomers],
        "peaks": [[*key, *peak] for key, peak in tally.peaks.items()],
    }


def _text(rows: object) -> str:
    return orjson.dumps(rows).decode()
