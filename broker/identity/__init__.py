"""The broker's certificate authority and the certificates that it shows itself."""
