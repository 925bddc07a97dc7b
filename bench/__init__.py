"""How close the service comes to what the machine can do, measured side by side in one run."""
