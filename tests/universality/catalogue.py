"""All models of the table (docs/universality.md), in its order."""

from tests.universality import language, multimodal, own, vision
from tests.universality.entry import Entry

ENTRIES: tuple[Entry, ...] = (
    *language.ENTRIES, *vision.ENTRIES, *multimodal.ENTRIES, *own.ENTRIES)
