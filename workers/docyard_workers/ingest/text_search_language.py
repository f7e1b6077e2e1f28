"""Which text search configuration of Postgres stems a language."""

from __future__ import annotations

# The configurations that every Postgres 15 has, by ISO 639-1 code.
_CONFIGURATIONS = {
    "ar": "arabic",
    "hy": "armenian",
    "eu": "basque",
    "ca": "catalan",
    "da": "danish",
    "nl": "dutch",
    "en": "english",
    "fi": "finnish",
    "fr": "french",
    "de": "german",
    "el": "greek",
    "hi": "hindi",
    "hu": "hungarian",
    "id": "indonesian",
    "ga": "irish",
    "it": "italian",
    "lt": "lithuanian",
    "ne": "nepali",
    "no": "norwegian",
    "nb": "norwegian",
    "nn": "norwegian",
    "pt": "portuguese",
    "ro": "romanian",
    "ru": "russian",
    "sr": "serbian",
    "es": "spanish",
    "sv": "swedish",
    "ta": "tamil",
    "tr": "turkish",
    "yi": "yiddish",
}


def text_search_language(tag: str | None, *, default: str = "english") -> str:
    """The configuration for a BCP 47 tag: ``"de-AT"`` → ``"german"``.

    ``default`` for None; ``"simple"``, which stems nothing, for a language that Postgres has no stemmer for.
    """
    if not tag:
        return default
    return _CONFIGURATIONS.get(tag.split("-")[0].split("_")[0].lower(), "simple")
