"""Write docs/schemas/peer_*.json: JSON Schemas of what the peer's commands print."""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))


def peer_schemas() -> dict[str, str]:
    """File name -> text, one for each document of `peer.cli.documents`."""
    import msgspec

    from peer.cli.documents import DOCUMENTS

    return {
        f"{name}.json": json.dumps(msgspec.json.schema(document), indent=2, sort_keys=True) + "\n"
        for name, document in DOCUMENTS.items()}


if __name__ == "__main__":
    from schemas_doc import write

    write(peer_schemas())
