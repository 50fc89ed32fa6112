"""matplotlib's SVG made fit to stand in a page: one light element with ids of its own, and the page's fonts."""

from __future__ import annotations

import re
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif"
DECIMALS = 2  # of coordinates, in points
SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
NUMBER = re.compile(r"-?\d+\.\d+(?:e-?\d+)?")
REFERENCE = re.compile(r"url\(#([^)]+)\)")


def fit_for_page(text: str, slug: str, description: str) -> str:
    """The `<svg>` element of a drawing: what nobody sees is gone, and every id begins with its slug.

    Args:
        description: read aloud in the drawing's place.
    """
    root = ElementTree.fromstring(text[text.index("<svg") :])
    viewed = root.get("viewBox", "")
    _shed(root)
    _rename(root, slug)
    for node in root.iter():
        _lighten(node)
    inside = "".join(_written(child) for child in root)
    said = description.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    return (
        f'<svg role="img" aria-label="{said}" viewBox="{viewed}" xmlns="{SVG}" xmlns:xlink="{XLINK}" '
        f'font-family="{FONTS}" stroke-linejoin="round">{inside}</svg>'
    )


def _name(node: Element) -> str:
    return node.tag.rpartition("}")[2]


def _shed(node: Element) -> None:
    """Take out metadata, styles and invisible backgrounds, and groups that say nothing."""
    for child in list(node):
        _shed(child)
    kept: list[Element] = []
    for child in node:
        invisible = _name(child) == "path" and child.get("style") == "fill: none" and child.get("id") is None
        if _name(child) in ("metadata", "style") or invisible:
            continue
        bare = _name(child) == "g" and not set(child.keys()) - {"id"}
        if bare or (_name(child) == "defs" and len(child) == 0):
            kept += list(child)
        else:
            kept.append(child)
    node[:] = kept


def _rename(root: Element, slug: str) -> None:
    """Short ids that no other drawing of the page has; those that nothing refers to are dropped."""
    used = {}
    for node in root.iter():
        for value in node.attrib.values():
            found = [value[1:]] if value.startswith("#") and not _is_colour(value) else REFERENCE.findall(value)
            used.update({name: used.get(name) or f"{slug}-{len(used) + 1}" for name in found})
    for node in root.iter():
        if "id" in node.attrib and node.attrib["id"] not in used:
            del node.attrib["id"]
        for key, value in node.attrib.items():
            if key == "id":
                node.set(key, used[value])
            elif value.startswith("#") and value[1:] in used:
                node.set(key, f"#{used[value[1:]]}")
            else:
                node.set(key, REFERENCE.sub(lambda found: f"url(#{used[found[1]]})", value))


def _is_colour(value: str) -> bool:
    return re.fullmatch(r"#[0-9a-f]{6}", value) is not None


def _lighten(node: Element) -> None:
    for key, value in node.attrib.items():
        if key in ("d", "x", "y", "transform", "points", "width", "height"):
            value = NUMBER.sub(lambda found: f"{float(found[0]):.{DECIMALS}f}".rstrip("0").rstrip("."), value)
            node.set(key, re.sub(r"\s+", " ", value).strip())
    style = node.get("style")
    if style is not None:
        parts = [part.strip() for part in style.split(";") if not part.strip().startswith("font-family")]
        node.set("style", ";".join(part.replace(": ", ":") for part in parts if part))
    if node.get("transform", "").startswith(("rotate(-0 ", "rotate(0 ")):
        del node.attrib["transform"]
    for empty in [key for key, value in node.attrib.items() if key == "style" and not value]:
        del node.attrib[empty]


def _written(node: Element) -> str:
    """An element as text without namespaces' prefixes, which the root has declared."""
    attributes = "".join(f' {_key(key)}="{_escaped(value)}"' for key, value in node.attrib.items())
    text = (node.text or "") if _name(node) in ("text", "tspan") else ""
    inside = _escaped(text) + "".join(_written(child) for child in node)
    return f"<{_name(node)}{attributes}>{inside}</{_name(node)}>" if inside else f"<{_name(node)}{attributes}/>"


def _key(key: str) -> str:
    return f"xlink:{key.rpartition('}')[2]}" if XLINK in key else key.rpartition("}")[2]


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")
