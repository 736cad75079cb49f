"""The command line: what is typed in, what is shown. It knows workflows only."""
