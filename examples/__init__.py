"""Models and scripts that show how Homespun is used."""
