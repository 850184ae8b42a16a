"""A small canvas for the pictures of docs/: light and dark, no font below 12 px.

Colors are classes, so that one file serves both color schemes. In a text, `a_{t}` is a subscript.
"""

import re
from html import escape

FONTS = "system-ui, 'Noto Sans', 'DejaVu Sans', 'Hiragino Sans', 'Yu Gothic', 'Noto Sans CJK JP', sans-serif"
STYLE = """
text { fill: #1b1f24 } .muted { fill: #57606a } .card { fill: #ffffff } .bold { font-weight: bold }
.line { fill: none; stroke: #57606a; stroke-width: 1.5 } .dash { stroke-dasharray: 5 4 } .tip { fill: #57606a }
.plain { fill: #f0f2f5; stroke: #8c959f } .blue { fill: #cfe3fb; stroke: #0b5cad }
.orange { fill: #ffdfb8; stroke: #a65200 } .gray { fill: #c4cbd3; stroke: #57606a }
.green { fill: #b7e3c0; stroke: #1a7f37 } .violet { fill: #e2d3f8; stroke: #7a3fc2 }
.frame { fill: none; stroke: #0b5cad; stroke-width: 3 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .muted { fill: #a5afba } .card { fill: #14181d }
.line { stroke: #a5afba } .tip { fill: #a5afba }
.plain { fill: #232a32; stroke: #6e7781 } .blue { fill: #123d6b; stroke: #6cb0f5 }
.orange { fill: #6b3a00; stroke: #f5b05a } .gray { fill: #3d4650; stroke: #a5afba }
.green { fill: #1c4d2b; stroke: #6fd08c } .violet { fill: #43296b; stroke: #b995f0 }
.frame { stroke: #6cb0f5 }
}"""


class Canvas:
    """Shapes in the order in which they are drawn; all sizes in pixels."""

    def __init__(self, width, height, title):
        self.width, self.height, self.title = width, height, title
        self.parts = [f'<rect class="card" width="{width}" height="{height}" rx="8"/>']

    def rect(self, x, y, width, height, style, rx=3):
        self.parts.append(
            f'<rect class="{style}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{rx}"/>'
        )

    def line(self, points, style="line"):
        path = " ".join(f"{x:g},{y:g}" for x, y in points)
        self.parts.append(f'<polyline class="{style}" points="{path}"/>')

    def arrow(self, points, style="line"):
        """A line with a tip at its last point."""
        (x0, y0), (x1, y1) = points[-2:]
        length = ((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5
        dx, dy = (x1 - x0) / length, (y1 - y0) / length
        back = x1 - 9 * dx, y1 - 9 * dy
        self.line([*points[:-1], back], style)
        corners = [(x1, y1), (back[0] - 4 * dy, back[1] + 4 * dx), (back[0] + 4 * dy, back[1] - 4 * dx)]
        self.parts.append('<polygon class="tip" points="%s"/>' % " ".join(f"{x:g},{y:g}" for x, y in corners))

    def text(self, x, y, text, anchor="start", size=14, style=""):
        """One line of text at the baseline `y`."""
        assert size >= 12, f"{text!r}: no font below 12 px"
        pieces = []
        for index, piece in enumerate(re.split(r"_\{(.*?)\}", text)):
            if piece and index % 2:
                pieces.append(f'<tspan dy="4" font-size="12">{escape(piece)}</tspan>')
            elif piece:
                lifted = ' dy="-4"' if index else ""
                pieces.append(f"<tspan{lifted}>{escape(piece)}</tspan>")
        style = f' class="{style}"' if style else ""
        self.parts.append(
            f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" font-size="{size}"{style}>{"".join(pieces)}</text>'
        )

    def box(self, x, y, width, height, text, style, size=14):
        """A box with a text in its middle."""
        self.rect(x, y, width, height, style)
        self.text(x + width / 2, y + height / 2 + 5, text, "middle", size)

    def svg(self):
        body = "\n".join(self.parts)
        size = f'viewBox="0 0 {self.width} {self.height}" width="{self.width}" height="{self.height}"'
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" font-family="{FONTS}">\n'
            f"<title>{escape(self.title)}</title>\n<style>{STYLE}\n</style>\n{body}\n</svg>\n"
        )
