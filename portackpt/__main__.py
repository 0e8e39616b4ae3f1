"""`python -m portackpt`."""

from portackpt.cli import main

main()
