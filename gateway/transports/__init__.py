"""The transports of connections, one file for each. Errors of libraries are caught here."""
