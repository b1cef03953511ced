"""Writes to runs: how a turn begins, is started, taken over, ended and stopped."""
