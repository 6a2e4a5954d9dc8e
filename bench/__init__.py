"""Benchmarks of the real daemon on a private Postgres: `python -m bench`. Goals and how to read the table:
docs/reference/benchmarks.md."""
