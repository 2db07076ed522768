"""Figures as drawings within a page: their lines and texts take the colours and the font that the page has."""

import re
from pathlib import Path

from adtr.figures.look import HAIR, INK, LINE, PAPER, SOFT

COLOURS = {INK: "currentColor", SOFT: "var(--soft)", LINE: "var(--line)", HAIR: "var(--hair)", PAPER: "none"}
TAGS = re.compile(r"<[^>]*>")  # what stands between them is read
DECIMALS = re.compile(r"-?\d+\.\d\d+")  # of a point in a drawing
LINES = re.compile(r'd="M[^"a-zABCDEFGHIJKNOPQRSTUVWXYZ]*"')  # paths of straight lines, which need no command for each
NEEDLESS = re.compile(r"font-family: [^;\"]*;? ?|stroke-linecap: round;? ?|\s*transform=\"rotate\(-0 [^\"]*\)\"")


def drawing(path: Path, name: str) -> str:
    """The SVG that matplotlib wrote, as a part of a page: no header, no ids but those that it uses, rounded to 0.1 px.

    Args:
        name: goes before its ids, so that no two drawings of a page share one.
    """
    text = path.read_text(encoding="utf-8")
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->|<style.*?</style>", "", text, flags=re.S)
    sized = r'<svg \1 \2 style="stroke-linejoin: round">'
    text = re.sub(r'<svg [^>]*(width="[^"]*")[^>]*(viewBox="[^"]*")[^>]*>', sized, text, count=1)
    used = set(re.findall(r"(?:url\(#|href=\"#)([^)\"]+)", text))
    text = re.sub(r' id="([^"]*)"', lambda found: f' id="{name}-{found[1]}"' if found[1] in used else "", text)
    text = re.sub(r"(url\(#|href=\"#)", rf"\g<1>{name}-", text).replace("xlink:href", "href")
    for colour, variable in COLOURS.items():
        text = text.replace(colour, variable)
    text = NEEDLESS.sub("", text)
    text = TAGS.sub(lambda tag: DECIMALS.sub(lambda found: f"{float(found[0]):.1f}".removesuffix(".0"), tag[0]), text)
    text = re.sub(r"\s+", " ", text).replace("> <", "><").strip()
    return LINES.sub(lambda found: found[0].replace(" L ", " "), text)
