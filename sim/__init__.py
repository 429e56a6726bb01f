"""Virtual-time world for the real cores."""
