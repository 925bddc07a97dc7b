"""The two HTTP listeners: what pages call, and what operators call."""
