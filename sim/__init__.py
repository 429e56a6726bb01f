"""Virtual-time world for the real cores.

Whatever is drawn at random comes from the world's one generator, in the order in which things
happen, so a seed repeats a history exactly. Nothing in here waits: hours pass in milliseconds.
"""
