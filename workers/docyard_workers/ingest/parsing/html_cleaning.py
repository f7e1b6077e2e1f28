"""What is taken out of a page before it is converted: what is not shown, navigation, and the head."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass, field


def _names(words: str) -> frozenset[str]:
    return frozenset(words.split())


_HIDDEN = re.compile(r"<(?:(!--)|(script|style|template|noscript|svg)\b[^<>]*>?)", re.I)
_CLOSERS = {
    name: re.compile(rf"</{name}[^<>]*>", re.I) for name in ("script", "style", "template", "noscript", "svg")
} | {"!--": re.compile("--!?>")}
_NAVIGATION = re.compile(
    r"<(nav)\b[^<>]*>"
    r"|<([a-z][\w-]*)\b[^<>]*?\b(?:role\s*=\s*[\"']?(?:navigation|search)\b"
    r"|class\s*=\s*[\"'][^\"'<>]*\b(?:navheader|navfooter|headerlink|sphinxsidebar|breadcrumbs?|skip-?link)\b)[^<>]*>",
    re.I,
)
_IMAGE = re.compile(r"<img\b[^<>]*?\balt\s*=\s*(?:\"([^\"<>]*)\"|'([^'<>]*)')[^<>]*>", re.I)
_HEAD_END = re.compile(r"</head\s*>|<body\b", re.I)
_HEAD_START = re.compile(r"<(?:head|title|meta)\b", re.I)
_TITLE = re.compile(r"<title[^<>]*>(.*?)</title", re.I | re.S)
_LANGUAGE = re.compile(r"<html\b[^<>]*?\blang\s*=\s*[\"']?([A-Za-z]{2,3}(?:-[A-Za-z0-9]+)*)", re.I)
_META = re.compile(r"<meta\b([^<>]*)>", re.I)
_ATTRIBUTE = re.compile(r"([\w:-]+)\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s\"'>]+))")
_WRAPPERS = re.compile(r"<(/?)(div|section|article|main|center|font|span|b|i|em|strong)\b[^<>]*>", re.I)
_STRUCTURE = re.compile(r"</?(?:ul|ol|li|dl|dt|dd|blockquote|table|tbody|thead|tr|td|th)\b[^<>]*>", re.I)
_BLOCKS = frozenset({"div", "section", "article", "main", "center"})
_TAG = re.compile(r"<(/?)([a-z][a-z0-9]*)", re.I)
_UNCLOSED = _names(
    "area base br col embed hr img input link meta source track wbr p li dt dd td th tr option tbody thead"
)
# Behind it nobody looks for a title: each unclosed one would search the whole page.
_HEAD_SIZE = 65_536
_KEPT_META = {"description", "author", "keywords"}


@dataclass(frozen=True, slots=True)
class Head:
    """A page's title and language, ``None`` where it names none, and its description, author and keywords."""

    title: str | None = None
    language: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)


def clean_page(page: str) -> tuple[Head, str]:
    """The head's facts, and the page without its head, scripts, comments and navigation.

    Images become their ``alt``.
    """
    page = _without_hidden(page)
    end = _HEAD_END.search(page)
    if end is None:
        head, body = "", page
        if _HEAD_START.match(page.lstrip()[:2000]) or _TITLE.search(page, 0, _HEAD_SIZE):
            head, rest = page[:_HEAD_SIZE], page[_HEAD_SIZE:]
            body = _META.sub("", _TITLE.sub("<p hidden></p", head, count=1)) + rest
    else:
        head, body = page[: min(end.start(), _HEAD_SIZE)], page[end.start() :]
    body = _without_navigation(body)
    return _read_head(head, page[:4096]), _IMAGE.sub(lambda found: found[1] or found[2] or "", body)


def nesting(body: str) -> int:
    """How deep the elements nest, those that close themselves aside."""
    depth = deepest = 0
    for tag in _TAG.finditer(body):
        if tag[2].lower() in _UNCLOSED:
            continue
        depth += -1 if tag[1] else 1
        deepest = max(deepest, depth)
    return deepest


def flatten(body: str, max_nesting: int) -> str:
    """A page that nests deeper, without the elements that only wrap others, then without lists and tables.

    A paragraph begins where a block did.
    """
    if nesting(body) > max_nesting:
        body = _WRAPPERS.sub(lambda tag: "<p>" if tag[2].lower() in _BLOCKS else "", body)
        if nesting(body) > max_nesting:
            body = _STRUCTURE.sub("<p>", body)
    return body


def visible_text(body: str) -> str:
    """The page's words with every tag taken out."""
    return html.unescape(re.sub(r"<[a-z/!?][^<>]*>", " ", body, flags=re.I))


def _without_hidden(page: str) -> str:
    kept, position, hopeless = [], 0, set()
    while found := _HIDDEN.search(page, position):
        name = (found[1] or found[2]).lower()
        closer = None if name in hopeless else _CLOSERS[name].search(page, found.end())
        kept.append(page[position : found.start()])
        if closer is None:  # then only its tag goes, and no other of its kind searches the page in vain
            hopeless.add(name)
        position = found.end() if closer is None else closer.end()
    kept.append(page[position:])
    return "".join(kept)


def _without_navigation(body: str) -> str:
    kept, position, tries = [], 0, 0
    for found in _NAVIGATION.finditer(body):
        if found.start() < position:
            continue
        end = _end_of_element(body, found)
        if end is None:
            tries += 1
            if tries > 20:
                break
            continue
        kept.append(body[position : found.start()])
        position = end
    kept.append(body[position:])
    return "".join(kept)


def _end_of_element(body: str, start: re.Match[str]) -> int | None:
    depth = 1
    for tag in re.compile(rf"<(/?){re.escape(start[1] or start[2])}\b[^<>]*>", re.I).finditer(
        body, start.end()
    ):
        depth += -1 if tag[1] else 1
        if depth == 0:
            return tag.end()
    return None


def _read_head(head: str, start: str) -> Head:
    title = _TITLE.search(head)
    language = _LANGUAGE.search(start)
    metadata: dict[str, str] = {}
    for found in _META.finditer(head):
        attributes = {name.lower(): a or b or c for name, a, b, c in _ATTRIBUTE.findall(found[1])}
        key = attributes.get("name", "").lower()
        if key in _KEPT_META and (value := _words(attributes.get("content", ""))):
            metadata.setdefault(key, value)
    return Head(
        title=(_words(title[1]) or None) if title else None,
        language=language[1] if language else None,
        metadata=metadata,
    )


def _words(markup: str) -> str:
    return " ".join(html.unescape(markup).replace("\0", "").split())
