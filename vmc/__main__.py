"""``python -m vmc`` is the command ``vmc``."""

from vmc.cli.main import main

main()
