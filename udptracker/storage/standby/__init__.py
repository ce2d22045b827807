"""A store that outlives its store: `circuit`, with what it remembers in `journal`."""
