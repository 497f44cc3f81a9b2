"""The command line. `__main__.py` has the group of all commands; each command is a module."""
