"""What `homespun plan` does beside planning: reading files, measuring, saying and drawing plans."""
