"""A little SVG: enough for the charts of a report.

Colours come from the style sheet of the page (templates/report.css), so that a chart follows light, dark and print.
"""

# coordinates in CSS pixels, y downwards

import unicodedata
from xml.etree import ElementTree


class Chart:
    """An SVG element under construction; numbers are written with at most two decimals."""

    def __init__(self, width: float, height: float, label: str) -> None:
        self.root = ElementTree.Element(
            "svg",
            {
                "viewBox": f"0 0 {coordinate(width)} {coordinate(height)}",
                "width": coordinate(width),
                "height": coordinate(height),
                "role": "img",
                "aria-label": label,
            },
        )

    def add(self, tag: str, style: str, title: str = "", **attributes: float | str) -> ElementTree.Element:
        """Add a shape of a CSS class; ``title`` is what a pointer that rests on it shows."""
        written = {name.replace("_", "-"): coordinate(value) for name, value in {"class": style, **attributes}.items()}
        shape = ElementTree.SubElement(self.root, tag, {name: value for name, value in written.items() if value})
        if title:
            ElementTree.SubElement(shape, "title").text = title
        return shape

    def line(self, style: str, x1: float, y1: float, x2: float, y2: float) -> None:
        """Add a straight line of a CSS class."""
        self.add("line", style, x1=x1, y1=y1, x2=x2, y2=y2)

    def text(
        self,
        content: str,
        x: float,
        y: float,
        *,
        anchor: str = "start",
        size: float = 12,
        style: str = "",
        turn: int = 0,
    ) -> None:
        """Add a text; ``turn`` rotates it about (x, y), degrees clockwise."""
        rotation = f"rotate({turn} {coordinate(x)} {coordinate(y)})" if turn else ""
        self.add("text", style, x=x, y=y, text_anchor=anchor, font_size=size, transform=rotation).text = content

    def svg(self) -> str:
        """The element as text; names in it are escaped."""
        return ElementTree.tostring(self.root, encoding="unicode")


def coordinate(value: float | str) -> str:
    """A coordinate with at most two decimals; text stays as it is."""
    return value if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip(".")


def text_px(text: str, font_px: float) -> float:
    """Width of a text, roughly; fonts are the reader's."""
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    return font_px * (wide + 0.58 * (len(text) - wide))


def percent(share: float) -> str:
    """A share, 0..1, as it stands in texts."""
    return f"{100 * share:.1f} %"
