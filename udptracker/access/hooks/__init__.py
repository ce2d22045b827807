"""Hooks: what decides about announces beside the lists and limits, in the order of the configuration."""
