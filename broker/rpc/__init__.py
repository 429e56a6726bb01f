"""The gRPC services of the broker: thin shells that check, translate and hand on."""
