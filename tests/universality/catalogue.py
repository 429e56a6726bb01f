"""All models of the table (docs/universality.md), in its order."""

from tests.universality import own, vision
from tests.universality.entry import Entry

ENTRIES: tuple[Entry, ...] = (*vision.ENTRIES, *own.ENTRIES,)
