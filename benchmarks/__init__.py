"""Measured claims: each figure in the README comes from a command here, and its result is kept as data."""
