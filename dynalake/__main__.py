"""`python -m dynalake`."""

from dynalake.cli import main

main()
