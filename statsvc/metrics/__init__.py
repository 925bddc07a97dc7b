"""Prometheus metrics, on a registry that is passed in.

`site` is a registered domain, `route` a template of ours: no label's value is a visitor's choice.
"""

from prometheus_client import disable_created_metrics

# A series a series, for a time that Prometheus does not use.
disable_created_metrics()  # type: ignore[no-untyped-call]
