"""`python -m homespun`: the same as the `homespun` command."""

from homespun.cli import main

if __name__ == "__main__":
    main()
