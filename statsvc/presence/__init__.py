"""Who is current: in memory for one process."""
