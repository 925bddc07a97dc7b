"""Where counts are kept for ever."""
