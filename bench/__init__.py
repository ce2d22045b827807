"""Trackers side by side on one machine: `python -m bench`, from the root of the repository. See README.md here."""
