"""A batch's counts as the text that every store's own SQL folds into its tables."""

import orjson

from statsvc.ports import Batch


def as_json(batch: Batch) -> str:
    """An object of arrays, one for each table; their elements are the key's parts, then the counts."""
    tally = batch.tally
    return orjson.dumps(
        {
            "hours": [[*key, *counts] for key, counts in tally.hours.items()],
            "days": [[*key, *counts] for key, counts in tally.days.items()],
            "pages": [[*key, *counts] for key, counts in tally.pages.items()],
            "names": [[*key, events] for key, events in tally.names.items()],
            "newcomers": [[*key, visitors] for key, visitors in tally.newcomers.items()],
            "peaks": [[*key, *peak] for key, peak in tally.peaks.items()],
            "receipts": batch.receipts,
        }
    ).decode()
