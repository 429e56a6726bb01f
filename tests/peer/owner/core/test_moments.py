"""Moments as owners name them."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from homespun.errors import Code, HomespunError
from peer.owner.core.moments import parse_moment

BERLIN = ZoneInfo("Europe/Berlin")
FRIDAY = datetime(2026, 11, 27, 17, 0, tzinfo=BERLIN)


@pytest.mark.parametrize(("text", "shown"), [
    ("30m", "2026-11-27 17:30"), ("1h30m", "2026-11-27 18:30"), ("until 18:00", "2026-11-27 18:00"),
    ("until 16:59", "2026-11-28 16:59"), ("UNTIL 8:00", "2026-11-28 08:00"),
    ("until Mon 08:00", "2026-11-30 08:00"), ("until fri 18:00", "2026-11-27 18:00"),
    ("until Friday 09:00", "2026-12-04 09:00"), ("until 2026-12-24 20:00", "2026-12-24 20:00"),
])
def test_words_name_a_moment(text, shown):
    moment = datetime.fromtimestamp(parse_moment(text, FRIDAY.timestamp(), BERLIN), BERLIN)
    assert moment.strftime("%Y-%m-%d %H:%M") == shown


def test_an_hour_that_comes_twice_is_its_next_time():
    between = datetime(2026, 10, 25, 0, 45, tzinfo=UTC).timestamp()  # 02:45, the first time
    assert parse_moment("until 02:30", between, BERLIN) == between + 45 * 60


@pytest.mark.parametrize("text", [
    "until", "until noon", "until 25:00", "soon", "30", "0s", "until 2026-02-30 08:00",
    "until 2026-11-26 08:00", "until 2036-01-01 08:00", "until Mon Tue 08:00", "400d",
    "18:00"])
def test_words_that_name_none(text):
    with pytest.raises(HomespunError) as caught:
        parse_moment(text, FRIDAY.timestamp(), BERLIN)
    assert caught.value.code is Code.INVALID_ARGUMENT
