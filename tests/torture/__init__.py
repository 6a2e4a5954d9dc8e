"""Torture: writers, DDL, kills, freezes and faults on several daemons, with what must always hold checked from outside.

`plan` says what happens when, `arena` has the servers, `fleet` the daemons, `faults` does to them what the plan says,
`writers` keep `ledger` of every committed state, `observer` compares files with it, and `run` puts them together.
"""
