"""`python -m prefrl` is `prefrl`."""

from prefrl.cli import main

main()
