"""What carries a connection: one file a transport. Foreign errors end here."""
