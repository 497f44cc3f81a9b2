"""The places states can live: one module a broker."""
