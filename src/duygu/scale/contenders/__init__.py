"""One script per tool, each run in a process of its own; see `harness`."""
