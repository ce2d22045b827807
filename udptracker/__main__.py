"""`python -m udptracker` is the `udptracker` command."""

from udptracker.cli import main

if __name__ == "__main__":
    main()
