"""Snapshots of segments: on disk, from peer to peer, whole or as shards."""

from peer.snapshots.keeper import Given, HeldSnapshot, Kept, SnapshotKeeper

__all__ = ["Given", "HeldSnapshot", "Kept", "SnapshotKeeper"]
