"""`python -m datastore_dumper` is the command line."""

from datastore_dumper.cli import main

if __name__ == "__main__":  # the worker processes import this module too
    main()
