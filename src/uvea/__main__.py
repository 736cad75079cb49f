"""`python -m uvea` is the same as `uvea`."""

from uvea.cli.main import main

if __name__ == "__main__":
    main()
