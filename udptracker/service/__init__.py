"""The life of a node: its parts put together, started, told to stop, stopped."""
