"""Compares the daemon's files with the dumps of a real CKAN, byte for byte, on tables that a seed generates.

    python -m tests.fidelity --ckan 2.12 --tables 200 --seed 7      (make fidelity CKAN=2.12 TABLES=200 SEED=7)

`recipes` says what the tables are like, of `values` and `names`; `making` makes them in a running CKAN; `comparison` asks
both sides for every format and tells the differences; `run` puts these in order and reports.
"""
