"""`python -m datastore_dumper` is the command line."""

from datastore_dumper.command import main

if __name__ == "__main__":  # the worker processes import this module too
    main()
