"""What the tests of the command line share."""

from tests.cli.conftest import as_found, compiled_once, own_folder

__all__ = ["as_found", "compiled_once", "own_folder"]
