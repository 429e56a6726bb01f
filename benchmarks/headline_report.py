"""Table and plot of `rtx3080_vs_h100.py`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from math import log10
from xml.sax.saxutils import escape

Row = Mapping[str, object]
WIDTH, HEIGHT, PANEL_WIDTH, PANEL_HEIGHT, MARGIN = 1000, 760, 220, 240, 60
FLOOR, CEILING = 0.01, 2.0
"""Shown range of the ratio."""
COLOURS = {1: "#1b6ca8", 4: "#c8782b", 20: "#2e8b57"}


def markdown(found: Mapping[str, Sequence[Row]]) -> str:
    """All tables."""
    parts = [
        "# 50 RTX 3080 on home links beside 4 H100, 2026-11-26", "",
        "`python benchmarks/rtx3080_vs_h100.py --write`. Predictions of the planner, not "
        "measurements; assumptions and what follows are in "
        "[docs/headline.md](../../docs/headline.md). Plot: "
        "[svg](2026-11-26-rtx3080-vs-h100.svg), figures: [json](2026-11-26-rtx3080-vs-h100.json).",
        "", "## 4 H100, utilisation 0.4", "",
        "| model | work | H100 | sequences/s | tokens/s | pipelines x stages | limit |",
        "|---|---|---|---|---|---|---|", *map(_rival, found["rivals"]), "",
        "## 50 RTX 3080", "",
        "Each cell: sequences/s (peers used / replicas, what limits) and the ratio to 4 H100 SXM / "
        "4 H100 PCIe. Compression divides what crosses a link: 1 is bf16 and lossless, 4 (four "
        "bits a value) and 20 (largest entries only) lose.", ""]
    for (model, kind, share), rows in groupby(
            found["rows"], lambda row: (row["model"], row["kind"], row["utilisation"])):
        parts += [*_home(str(model), str(kind), float(str(share)), list(rows)), ""]
    parts += [*_break_even(found["break_even"]), "", *_baechi(found["baechi"]), "",
              *_least(found["least"]), ""]
    return "\n".join(parts)


def _rival(row: Row) -> str:
    if not row["fits"]:
        return f"| {row['model']} | {row['kind']} | {row['fleet']} | does not fit | | | memory |"
    stages = row["stages"]
    assert isinstance(stages, list)
    return (f"| {row['model']} | {row['kind']} | {row['fleet']} | {row['sequences_per_s']:.3g} | "
            f"{row['tokens_per_s']:,.0f} | {len(stages)} x {max(stages)} | {row['limit']} |")


def _home(model: str, kind: str, share: float, rows: Sequence[Row]) -> Iterator[str]:
    yield f"### {model}, {kind}, utilisation {share:g}"
    yield ""
    if not rows[0]["fits"]:
        yield f"Does not fit. {rows[0]['reason']}"
        return
    yield "| link | lossless | compression 4 | compression 20 |"
    yield "|---|---|---|---|"
    for (gbits, latency_ms), cells in groupby(
            rows, lambda row: (row["gbits"], row["latency_ms"])):
        yield (f"| {gbits:g} Gbit/s, {latency_ms:g} ms | "
               + " | ".join(_cell(cell) for cell in cells) + " |")


def _cell(row: Row) -> str:
    of = row["of"]
    assert isinstance(of, dict)
    ratios = " / ".join("-" if of[name] is None else f"{of[name]:.2f}" for name in sorted(
        of, reverse=True))
    return (f"{row['sequences_per_s']:.3g} ({row['peers']}/{row['replicas']}, {row['limit']}) "
            f"**{ratios}**")


def _break_even(rows: Sequence[Row]) -> Iterator[str]:
    yield "## Break-even bandwidth"
    yield ""
    yield ("Gbit/s of each direction. *Hop*: where sending one sequence's activations takes as "
           "long as a stage of a 50-stage pipeline, forward. The others: from where on 50 RTX "
           "3080 (utilisation 0.5, 10 ms) reach 0.8 of 4 H100 with the peers and replicas that "
           "the planner picks, lossless, in steps of a third; compression by c divides it by c. "
           "*Never*: not at 100 Gbit/s either; 0.01 is the least that was tried.")
    yield ""
    yield ("| model | hop at 0.3 / 0.5 | training, SXM | training, PCIe | inference, SXM | "
           "inference, PCIe |")
    yield "|---|---|---|---|---|---|"
    for row in rows:
        hop = row["hop_gbits"]
        assert isinstance(hop, dict)
        cells = [
            _gbits(row[f"{kind} H100 {slot}"])
            for kind in ("training", "inference") for slot in ("SXM", "PCIe")]
        yield f"| {row['model']} | {hop['0.3']:.2g} / {hop['0.5']:.2g} | {' | '.join(cells)} |"


def _gbits(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.2g}"
    return "never" if value is None else "H100s too small"


def _baechi(rows: Sequence[Row]) -> Iterator[str]:
    yield "## What the planner gains over m-ETF and m-SCT"
    yield ""
    yield ("Sequences/s at 10 ms, lossless, utilisation 0.5. *Alone*: one pipeline by the stages "
           "of the mapping; *in replicas*: in as many as ours. Both get the most favourable of "
           "four memory reserves.")
    yield ""
    yield ("| model | work | Gbit/s | ours (peers / replicas) | our one pipeline | m-ETF alone | "
           "m-SCT alone | m-ETF in replicas | m-SCT in replicas | gain over the best alone / in "
           "replicas |")
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for row in rows:
        values = [row[name] for name in (
            "ours_one_pipeline", "m-etf", "m-sct", "m-etf_replicated", "m-sct_replicated")]
        gains = [
            max((float(str(value)) for value in pair if value), default=0.0)
            for pair in (values[1:3], values[3:])]
        ours = float(str(row["ours"]))
        cells = ["none" if value is None else f"{value:.3g}" for value in values]
        gain = " / ".join(f"{ours / best:.2f}x" if best else "only ours" for best in gains)
        yield (f"| {row['model']} | {row['kind']} | {row['gbits']:g} | {ours:.3g} "
               f"({row['ours_peers']} / {row['ours_replicas']}) | {' | '.join(cells)} | {gain} |")


def _least(rows: Sequence[Row]) -> Iterator[str]:
    yield "## GPUs below which memory cannot hold a model that is cut between operators"
    yield ""
    yield "| model | work | parameters | RTX 3080 | H100 |"
    yield "|---|---|---|---|---|"
    for row in rows:
        counts = ["none: one weight matrix with its state is larger than the card"
                  if row[name] is None else str(row[name]) for name in ("RTX 3080", "H100")]
        yield (f"| {row['model']} | {row['kind']} | {int(str(row['parameters'])) / 1e9:.4g} G | "
               f"{' | '.join(counts)} |")


def picture(found: Mapping[str, Sequence[Row]]) -> str:
    """Ratio to 4 H100 SXM over bandwidth at 10 ms, one panel per model and kind of work."""
    rows = [row for row in found["rows"] if not row["fits"] or row["latency_ms"] == 10]
    models = list(dict.fromkeys(str(row["model"]) for row in rows))
    drawn = [_legend()]
    for down, kind in enumerate(("training", "inference")):
        for across, model in enumerate(models):
            mine = [row for row in rows if row["model"] == model and row["kind"] == kind]
            rival = next(row for row in found["rivals"] if row["model"] == model
                         and row["kind"] == kind)
            left = MARGIN + across * (PANEL_WIDTH + 15)
            drawn.append(_panel(mine, rival, left, 60 + down * (PANEL_HEIGHT + 80), f"{model}, "
                                f"{kind}"))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>'
        f"{''.join(drawn)}</svg>\n")


def _legend() -> str:
    text = _text(MARGIN, 24, "Throughput of 50 RTX 3080 over that of 4 H100 SXM (utilisation 0.4), "
                 "by link bandwidth at 10 ms", 15)
    for place, (factor, colour) in enumerate(COLOURS.items()):
        left = MARGIN + 160 * place
        text += f'<path d="M{left} 715h28" stroke="{colour}" stroke-width="3"/>'
        text += _text(left + 34, 719, "lossless" if factor == 1 else f"compression {factor}")
    text += _text(MARGIN + 500, 719, "solid: utilisation 0.5; dashed: 0.3; grey band: 0.8 and more")
    return text


def _panel(rows: Sequence[Row], rival: Row, left: float, top: float, title: str) -> str:
    drawn = _text(left, top - 8, title, 13)
    drawn += (f'<rect x="{left}" y="{top}" width="{PANEL_WIDTH}" height="{PANEL_HEIGHT}" '
              'fill="none" stroke="#999"/>')
    if not rows[0]["fits"]:
        return drawn + _text(left + 10, top + 110, "50 RTX 3080 do not hold it,") + _text(
            left + 10, top + 128, "nor do 4 H100")
    if not rival["fits"]:
        rates = [float(str(row["sequences_per_s"])) for row in rows]
        return drawn + _text(left + 10, top + 110, "4 H100 do not hold it; 50 RTX 3080") + _text(
            left + 10, top + 128, f"run {min(rates):.2g} to {max(rates):.2g} sequences/s")
    band = _down(CEILING, top), _down(0.8, top)
    drawn += (f'<rect x="{left}" y="{band[0]:.1f}" width="{PANEL_WIDTH}" '
              f'height="{band[1] - band[0]:.1f}" fill="#eee"/>')
    for ratio in (0.01, 0.1, 1.0):
        height = _down(ratio, top)
        drawn += f'<path d="M{left} {height:.1f}h{PANEL_WIDTH}" stroke="#ccc"/>'
        if left == MARGIN:  # one scale for the whole row
            drawn += _text(left - 34, height + 4, f"{ratio:g}")
    for gbits in (0.1, 1.0, 10.0):
        drawn += _text(_across(gbits, left) - 12, top + PANEL_HEIGHT + 16, f"{gbits:g}")
    drawn += _text(left + 150, top + PANEL_HEIGHT + 32, "Gbit/s")
    for (share, factor), line in groupby(
            sorted(rows, key=lambda row: (row["utilisation"], row["compression"], row["gbits"])),
            lambda row: (row["utilisation"], row["compression"])):
        drawn += _line(list(line), left, top, COLOURS[int(str(factor))], share == 0.3)
    return drawn


def _line(rows: Sequence[Row], left: float, top: float, colour: str, is_dashed: bool) -> str:
    points = []
    for row in rows:
        of = row["of"]
        assert isinstance(of, dict)
        points.append(f"{_across(float(str(row['gbits'])), left):.1f},"
                      f"{_down(of['H100 SXM'], top):.1f}")
    dash = ' stroke-dasharray="5 4"' if is_dashed else ""
    return (f'<polyline points="{" ".join(points)}" fill="none" stroke="{colour}" '
            f'stroke-width="2"{dash}/>')


def _across(gbits: float, left: float) -> float:
    return left + 20 + (PANEL_WIDTH - 40) * (log10(gbits) + 1) / 2


def _down(ratio: float, top: float) -> float:
    held = min(CEILING, max(FLOOR, ratio))
    return top + PANEL_HEIGHT * (1 - log10(held / FLOOR) / log10(CEILING / FLOOR))


def _text(left: float, top: float, text: str, size: int = 12) -> str:
    return f'<text x="{left:.1f}" y="{top:.1f}" font-size="{size}">{escape(text)}</text>'
