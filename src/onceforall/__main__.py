"""`python -m onceforall`."""

from onceforall.cli import main

if __name__ == "__main__":
    main()
