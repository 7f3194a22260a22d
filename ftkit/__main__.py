"""`python -m ftkit`: the command line, for machines on which the `ftkit` command is not on the path."""

from ftkit.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
