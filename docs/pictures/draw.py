"""Draws each text beside it as an SVG picture: `python docs/pictures/draw.py` (part of `make pictures`).

The first lines of processes.txt say how a text is written. Nothing but the standard library is needed, and the same
text always gives the same bytes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

HERE = Path(__file__).parent
CELL_WIDTH, CELL_HEIGHT = 276, 84
BOX_HEIGHT = 50
MARGIN = 14
CHARACTER = 7.6
"""Width of a letter, about."""
COLOURS = {"outside": ("#f2f2f2", "#767676"), "process": ("#e3eefb", "#1d5fa8"), "store": ("#fdf0d5", "#9a6200")}
ARROW = re.compile(r"(\S+)\s+(<->\s+)?(\S+)\s*(.*)")
ARROW_HEAD = (
    '<defs><marker id="end" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
    'orient="auto-start-reverse"><path d="M0 0 8 4 0 8z" fill="#444"/></marker></defs>'
)
STYLE = "font-family: system-ui, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif; font-size: 13px"


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A rectangle with text, by its middle."""

    kind: str
    x: float
    y: float
    lines: list[str]

    @property
    def width(self) -> float:
        """Wide enough for the longest line."""
        return max(96.0, max(map(len, self.lines)) * CHARACTER + 18)

    def edge(self, x: float, y: float) -> tuple[float, float]:
        """Where the line from the middle to a point leaves the box."""
        dx, dy = x - self.x, y - self.y
        share = min(self.width / 2 / abs(dx) if dx else 9.0, BOX_HEIGHT / 2 / abs(dy) if dy else 9.0)
        return self.x + dx * share, self.y + dy * share


def draw(text: str) -> str:
    """Return the SVG picture of a text."""
    boxes: dict[str, Box] = {}
    frames: list[str] = []
    lines: list[str] = []
    labels: list[str] = []
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        kind, rest = line.split(None, 1)
        if kind == "frame":
            frames.append(frame(rest))
        elif kind == "arrow":
            drawn, label = arrow(rest, boxes)
            lines.append(drawn)
            labels.append(label)
        else:
            name, column, row, label = rest.split(None, 3)
            x, y = (int(column) + 0.5) * CELL_WIDTH, (int(row) + 0.5) * CELL_HEIGHT
            boxes[name] = Box(kind=kind, x=x, y=y, lines=label.split(" | "))
    right = max(box.x + CELL_WIDTH / 2 for box in boxes.values())
    bottom = max(box.y + CELL_HEIGHT / 2 for box in boxes.values())
    size = f"{-MARGIN} {-MARGIN} {right + 2 * MARGIN:g} {bottom + 2 * MARGIN:g}"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{size}" style="{STYLE}">',
            ARROW_HEAD,
            f'<rect x="{-MARGIN}" y="{-MARGIN}" width="100%" height="100%" fill="#fff"/>',
            *frames,
            *lines,
            *(rectangle(box) for box in boxes.values()),
            *filter(None, labels),
            "</svg>\n",
        ]
    )


def frame(rest: str) -> str:
    """Return a dashed frame around cells, with its text at the top."""
    column, row, width, height, label = rest.split(None, 4)
    x, y = int(column) * CELL_WIDTH + 4, int(row) * CELL_HEIGHT
    size = f'width="{int(width) * CELL_WIDTH - 8}" height="{int(height) * CELL_HEIGHT}"'
    middle = x + int(width) * CELL_WIDTH / 2 - 4
    lines = "".join(
        text(middle, y + 26 + 18 * number, line, bold=number == 0) for number, line in enumerate(label.split(" | "))
    )
    return f'<rect x="{x}" y="{y}" {size} rx="10" fill="none" stroke="#1d5fa8" stroke-dasharray="6 4"/>{lines}'


def rectangle(box: Box) -> str:
    """Return a box."""
    fill, stroke = COLOURS[box.kind]
    corner = 25 if box.kind == "store" else 6
    x, y = box.x - box.width / 2, box.y - BOX_HEIGHT / 2
    size = f'width="{box.width:g}" height="{BOX_HEIGHT}"'
    first = box.y + 4.5 - 9 * (len(box.lines) - 1)
    lines = "".join(
        text(box.x, first + 18 * number, line, bold=line.startswith("pylantir:") or line == "database")
        for number, line in enumerate(box.lines)
    )
    return f'<rect x="{x:g}" y="{y:g}" {size} rx="{corner}" fill="{fill}" stroke="{stroke}"/>{lines}'


def arrow(rest: str, boxes: dict[str, Box]) -> tuple[str, str]:
    """Return an arrow from one box to another, and the text on it."""
    start, both_ways, end, said = ARROW.fullmatch(rest).groups()  # type: ignore[union-attr]
    one, other = boxes[start], boxes[end]
    x1, y1 = one.edge(other.x, other.y)
    x2, y2 = other.edge(one.x, one.y)
    head = ' marker-start="url(#end)"' if both_ways else ""
    line = f'<path d="M{x1:.1f} {y1:.1f} {x2:.1f} {y2:.1f}" stroke="#444" marker-end="url(#end)"{head}/>'
    return line, text((x1 + x2) / 2, (y1 + y2) / 2 - 6, said, halo=True) if said else ""


def text(x: float, y: float, said: str, *, bold: bool = False, halo: bool = False) -> str:
    """Return text around a middle; a halo keeps it apart from lines behind it."""
    weight = ' font-weight="600"' if bold else ""
    border = ' stroke="#fff" stroke-width="4" paint-order="stroke" stroke-linejoin="round"' if halo else ""
    return f'<text x="{x:g}" y="{y:g}" text-anchor="middle" fill="#222"{weight}{border}>{escape(said)}</text>'


def main() -> None:
    """Draw every text of the folder."""
    for path in sorted(HERE.glob("*.txt")):
        path.with_suffix(".svg").write_text(draw(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
