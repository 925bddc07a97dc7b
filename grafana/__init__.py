"""Rules, and dashboards as code. `python -m grafana.build` writes the dashboards."""
