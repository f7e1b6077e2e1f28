"""Which media type a file has, from its name and its first bytes.

The table is ours: the system's own (``/etc/mime.types``) differs from host to host, and two workers
that disagree would parse one document in two ways.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from docyard_workers.ingest.errors import UnsupportedMedia

PLAIN = "text/plain"
MARKDOWN = "text/markdown"
HTML = "text/html"
RST = "text/x-rst"
JSON = "application/json"
JSON_LINES = "application/x-ndjson"
CSV = "text/csv"
TSV = "text/tab-separated-values"
PACKAGE_METADATA = "text/x-package-metadata"

_DOCUMENTS = {
    PLAIN: "txt text log",
    MARKDOWN: "md markdown mdown mkd mdx qmd",
    HTML: "html htm xhtml",
    RST: "rst rest",
    JSON: "json geojson webmanifest jsonld",
    JSON_LINES: "jsonl ndjson",
    CSV: "csv",
    TSV: "tsv tab",
}
_LANGUAGES = {
    "ada": "ada adb ads",
    "asciidoc": "adoc asciidoc",
    "c": "c h",
    "cpp": "cc cpp cxx hh hpp hxx ipp",
    "clojure": "clj cljs cljc edn",
    "cmake": "cmake",
    "csharp": "cs",
    "css": "css scss sass less",
    "cuda": "cu cuh",
    "dart": "dart",
    "diff": "diff patch",
    "elixir": "ex exs",
    "erlang": "erl hrl",
    "fortran": "f f77 f90 f95 f03 f08",
    "fsharp": "fs fsi fsx",
    "go": "go",
    "graphql": "graphql gql",
    "groovy": "groovy gradle",
    "haskell": "hs lhs",
    "ini": "ini cfg conf properties desktop",
    "java": "java",
    "javascript": "js mjs cjs jsx",
    "json5": "json5 jsonc",
    "julia": "jl",
    "kotlin": "kt kts",
    "latex": "tex sty cls bib",
    "lisp": "lisp el scm rkt",
    "lua": "lua",
    "makefile": "mk",
    "nim": "nim",
    "nix": "nix",
    "objective-c": "m mm",
    "ocaml": "ml mli",
    "org": "org",
    "pascal": "pas",
    "perl": "pl pm",
    "php": "php",
    "powershell": "ps1 psm1",
    "protobuf": "proto",
    "python": "py pyi pyw",
    "r": "r",
    "ruby": "rb rake gemspec",
    "rust": "rs",
    "scala": "scala sc",
    "shell": "sh bash zsh fish",
    "sql": "sql",
    "svelte": "svelte",
    "swift": "swift",
    "terraform": "tf tfvars hcl",
    "toml": "toml",
    "typescript": "ts tsx mts cts",
    "vim": "vim",
    "vue": "vue",
    "xml": "xml xsd xsl xslt svg plist",
    "yaml": "yaml yml",
    "zig": "zig",
}
_BY_EXTENSION = {
    extension: media_type
    for media_type, extensions in (
        *_DOCUMENTS.items(),
        *((f"text/x-{language}", extensions) for language, extensions in _LANGUAGES.items()),
    )
    for extension in extensions.split()
}
_BY_NAME = {
    "metadata": PACKAGE_METADATA,
    "pkg-info": PACKAGE_METADATA,
    "makefile": "text/x-makefile",
    "gnumakefile": "text/x-makefile",
    "dockerfile": "text/x-dockerfile",
    "containerfile": "text/x-dockerfile",
    "jenkinsfile": "text/x-groovy",
    "vagrantfile": "text/x-ruby",
    "gemfile": "text/x-ruby",
    "rakefile": "text/x-ruby",
    "procfile": "text/x-yaml",
    "justfile": "text/x-makefile",
}
_PLAIN_NAMES = (
    "readme license licence copying copyright notice authors contributors maintainers changelog changes "
    "history news todo install contributing thanks credits security version faq"
)
# "README.Debian" is text; "changelog.gz" is not.
_NO_TEXT_EXTENSIONS = (
    "gz bz2 xz zst lz4 br zip 7z rar tar tgz jar whl deb rpm pdf png jpg jpeg gif svgz ico webp mp3 mp4 exe "
    "dll so bin dat db pyc asc sig gpg"
)
_NO_TEXT = frozenset(_NO_TEXT_EXTENSIONS.split())
_BY_NAME |= dict.fromkeys(_PLAIN_NAMES.split(), PLAIN)

_MAGIC = (
    (b"%PDF-", "application/pdf"),
    (b"PK\x03\x04", "application/zip"),
    (b"PK\x05\x06", "application/zip"),
    (b"\x1f\x8b", "application/gzip"),
    (b"BZh", "application/x-bzip2"),
    (b"\xfd7zXZ\x00", "application/x-xz"),
    (b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (b"\x28\xb5\x2f\xfd", "application/zstd"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"\x7fELF", "application/x-executable"),
    (b"SQLite format 3\x00", "application/vnd.sqlite3"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "application/x-ole-storage"),
    (b"{\\rtf", "application/rtf"),
    (b"\x00asm", "application/wasm"),
)
_WIDE_MARKS = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")
# Possessive, or a page that opens with many comments would be tried in exponentially many ways.
_HTML_START = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*+(?:<\?xml[^>]*+>\s*+)?(?>(?><!--.*?-->)\s*+)*+<(?:!doctype\s+html|html\b)",
    re.I | re.S,
)
_CONTROLS = bytes(set(range(0x20)) - set(b"\t\n\r\f\x08\x1b")) + b"\x7f"
_SNIFFED_BYTES = 8192


def by_name(name: str) -> str | None:
    """The media type that a file's name promises, or ``None`` when the name says nothing."""
    path = PurePosixPath(name)
    extension = path.suffix[1:].lower()
    if extension in _BY_EXTENSION:
        return _BY_EXTENSION[extension]
    if extension in _NO_TEXT:
        return None
    return _BY_NAME.get(path.name.lower()) or _BY_NAME.get(path.stem.lower() if extension else "")


def by_content(data: bytes) -> str | None:
    """The media type that the first bytes prove: a known signature, binary, or HTML; else ``None``.

    ``application/octet-stream`` means: not text, and nothing we know.
    """
    head = data[:_SNIFFED_BYTES]
    for signature, media_type in _MAGIC:
        if head.startswith(signature):
            return media_type
    if wide_encoding(head) is None and _is_binary(head):
        return "application/octet-stream"
    return HTML if _HTML_START.match(head) else None


def detect(name: str, data: bytes) -> str:
    """The media type of a file; the bytes overrule the name where they prove it wrong.

    Text under an unknown name is plain text. Raises :class:`UnsupportedMedia` for what is not text,
    a binary file named ``.txt`` included.
    """
    promised, proven = by_name(name), by_content(data)
    if proven is None:
        return promised or PLAIN
    if proven == HTML:
        return promised if promised not in (None, PLAIN) else HTML
    wanted = f"its name promises {promised}, but " if promised else ""
    raise UnsupportedMedia(
        f"{name!r} cannot be ingested: {wanted}its bytes are {proven}",
        hint="Text formats are read: plain text, Markdown, HTML, reStructuredText, JSON, CSV, source code.",
        operation="ingest.detect",
        name=name,
        media_type=proven,
    )


def wide_encoding(head: bytes) -> str | None:
    """``utf-16`` or ``utf-32`` (with the byte order where no mark tells it), or ``None`` for other text."""
    if head.startswith((b"\xff\xfe\x00\x00", b"\x00\x00\xfe\xff")):
        return "utf-32"
    if head.startswith(_WIDE_MARKS):
        return "utf-16"
    even, odd = head[0::2], head[1::2]
    if len(head) < 8:
        return None
    if odd.count(0) > 0.4 * len(odd) and not _is_binary(even):
        return "utf-16-le"
    if even.count(0) > 0.4 * len(even) and not _is_binary(odd):
        return "utf-16-be"
    return None


def _is_binary(head: bytes) -> bool:
    # Text may hold a stray NUL, which the parsers drop; compressed or compiled bytes hold a tenth and more.
    controls = len(head) - len(head.translate(None, _CONTROLS))
    return controls > 0.05 * len(head)
