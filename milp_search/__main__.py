"""Lets `python -m milp_search` stand for the `milp-search` command."""

from milp_search.cli import main

if __name__ == "__main__":
    main()
