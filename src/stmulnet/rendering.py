"""HTML for notebooks: score bars, tables and pages.

Styles are inline, as notebooks drop others; they take the notebook's own text colour, so that they can be read on
light and dark ground. Where styles are dropped too, plain tables remain. All text is escaped.
"""

from collections.abc import Iterable, Mapping, Sequence
from html import escape

BAR_WIDTH_PX = 140
BAR, TRACK = "#3f8fd2", "rgba(128, 128, 128, 0.22)"  # both stand out from white and from black
SOFT = "opacity: 0.75; font-size: 90%"
CELL = "padding: 2px 8px; border: none; background: none; vertical-align: middle"
PAGE_HEIGHT_PX = 640

Ranking = Sequence[tuple[str, float]]


def rankings_html(rankings: Mapping[str, Ranking], notes: Sequence[str] = ()) -> str:
    """Bars of the best classes, one table per ranking side by side, the first with its best class as heading.

    Args:
        rankings: Title -> (class, probability 0..1), best first.
        notes: Lines below, in small print.
    """
    label, probability = next(iter(rankings.values()))[0]
    heading = f"<div style='font-size: 120%'><b>{escape(label)}</b> {_percent(probability)}</div>"
    tables = "".join(_bars(title, ranking) for title, ranking in rankings.items())
    beside = f"<div style='display: flex; flex-wrap: wrap; gap: 8px 28px'>{tables}</div>"
    return f"<div>{heading}{beside}{notes_html(notes)}</div>"


def table_html(
    header: Sequence[str], rows: Iterable[Sequence[str]], *, title: str = "", notes: Sequence[str] = ()
) -> str:
    """A table whose first column is text and whose others are figures.

    Args:
        header: Column headings.
        rows: Cells, as many as headings.
        title: Line above.
        notes: Lines below, in small print.
    """
    above = f"<div><b>{escape(title)}</b></div>" if title else ""
    lines = [f"<tr>{''.join(_cell(text, number, 'th') for number, text in enumerate(header))}</tr>"]
    lines += [f"<tr>{''.join(_cell(text, number) for number, text in enumerate(row))}</tr>" for row in rows]
    return f"<div>{above}<table style='margin: 4px 0'>{''.join(lines)}</table>{notes_html(notes)}</div>"


def page_html(page: str) -> str:
    """A whole HTML page in a frame of its own, in which no script runs."""
    style = f"width: 100%; height: {PAGE_HEIGHT_PX}px; border: 1px solid {TRACK}; background: white"
    return f'<iframe sandbox="" style="{style}" srcdoc="{escape(page)}"></iframe>'


def notes_html(notes: Sequence[str]) -> str:
    """Lines in small print."""
    return "".join(f"<div style='{SOFT}'>{escape(note)}</div>" for note in notes)


def _bars(title: str, ranking: Ranking) -> str:
    rows = "".join(_bar_row(label, probability) for label, probability in ranking)
    # A cell, not a caption: notebooks centre captions below the table.
    heading = f"<tr><td colspan='3' style='{CELL}; text-align: left; {SOFT}'>{escape(title)}</td></tr>"
    return f"<table style='margin: 4px 0'>{heading}{rows}</table>"


def _bar_row(label: str, probability: float) -> str:
    width_px = round(BAR_WIDTH_PX * min(max(probability, 0.0), 1.0))
    bar = f"<div style='width: {width_px}px; height: 10px; background: {BAR}; border-radius: 2px'></div>"
    track = f"<div style='width: {BAR_WIDTH_PX}px; background: {TRACK}; border-radius: 2px'>{bar}</div>"
    return (
        f"<tr>{_cell(label, 0)}<td style='{CELL}; min-width: {BAR_WIDTH_PX}px'>{track}</td>"
        f"{_cell(_percent(probability), 1)}</tr>"
    )


def _cell(text: str, column: int, tag: str = "td") -> str:
    align = "right; white-space: nowrap" if column else "left; max-width: 24em; overflow-wrap: anywhere"
    return f"<{tag} style='{CELL}; text-align: {align}'>{escape(text)}</{tag}>"


def _percent(probability: float) -> str:
    return f"{100 * probability:.1f} %"
