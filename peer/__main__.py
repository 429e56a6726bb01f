"""`python -m peer`: the same as the `peer` command."""

from peer.cli import main

if __name__ == "__main__":
    main()
