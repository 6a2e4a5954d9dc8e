"""`python -m datastore_dumper` is the command line."""

from datastore_dumper.cli import main

main()
