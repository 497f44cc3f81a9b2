"""The demo, as a whole and in parts."""
