"""Generated wire types (scripts/proto.py); only shells and the client import them."""
