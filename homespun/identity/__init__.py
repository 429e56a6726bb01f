"""Who is who: names in certificates, join keys, the identity on disk, and mutual TLS.

Shared by the client, the peer and the broker. Nobody's role or id is ever read from a message: they
are in the certificate that the network's authority signed (docs/protocol.md).
"""
