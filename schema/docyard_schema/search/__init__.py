"""Search: words and vectors, fused in one statement."""

from docyard_schema.search.document_search import DocumentSearch
from docyard_schema.search.request import SearchMode
from docyard_schema.search.results import Hit, SearchResult

__all__ = ["DocumentSearch", "Hit", "SearchMode", "SearchResult"]
