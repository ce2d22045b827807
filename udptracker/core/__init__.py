"""The tracker itself: bytes in, decisions out. Nothing here does I/O or reads a clock."""
