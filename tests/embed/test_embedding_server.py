"""The provider that our tests ask has the limits of a real one, and counts right."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from support import embedding_answers as answers
from support.embedding_limits import RateLimit
from support.embedding_vectors import packed_text_vector, text_vector

from benchmarks.embed.provider import embedding_process

if TYPE_CHECKING:
    from collections.abc import Sequence

    from support.embedding_server import EmbeddingServer


def ask(server: EmbeddingServer, texts: Sequence[str]) -> tuple[int, dict[str, Any], dict[str, str]]:
    request = {"model": "text-embedding-3-small", "input": [*texts], "encoding_format": "base64"}
    try:
        with urlopen(Request(f"{server.url}/embeddings", json.dumps(request).encode()), timeout=10) as answer:
            return answer.status, json.load(answer), dict(answer.headers)
    except HTTPError as error:
        with error:
            return error.code, json.load(error), dict(error.headers)


@pytest.mark.parametrize("dimension", [1, 24, 64, 1536, 3072])
def test_a_packed_vector_is_the_vector(dimension: int) -> None:
    packed = base64.b64decode(packed_text_vector("one text", dimension), validate=True)
    assert packed == text_vector("one text", dimension).tobytes()
    assert len(packed) == dimension * 4


def test_different_texts_have_different_vectors() -> None:
    assert len({packed_text_vector(f"text {number}", 64) for number in range(2_000)}) == 2_000


def test_more_requests_than_a_minute_takes_are_told_when_to_come_again(
    embedding_server: EmbeddingServer,
) -> None:
    embedding_server.requests_per_minute = RateLimit(60, window=2)
    assert [ask(embedding_server, ["text"])[0] for _ in range(3)] == [200, 200, 429]
    status, body, headers = ask(embedding_server, ["text"])
    assert (status, body["error"]["code"]) == (429, "rate_limit_exceeded")
    assert headers["Retry-After"] == "1"
    assert 0 < int(headers["retry-after-ms"]) <= 1000
    assert embedding_server.counts.during_cooldown() == 1, "the fourth came too early"


def test_more_tokens_than_a_minute_takes_wait_but_not_for_ever(embedding_server: EmbeddingServer) -> None:
    embedding_server.tokens_per_minute = RateLimit(600, window=6)
    assert ask(embedding_server, ["x" * 400])[0] == 200, "more than it holds passes when it is full"
    assert ask(embedding_server, ["x" * 40])[0] == 429


def test_it_counts_what_came_again(embedding_server: EmbeddingServer) -> None:
    embedding_server.script(answers.failing(500))
    ask(embedding_server, ["one", "two"])
    ask(embedding_server, ["two", "three"])
    ask(embedding_server, ["three"])
    counts = embedding_server.counts
    assert counts.sent_again == {"two": 2, "three": 2}
    assert counts.embedded_again == {"three": 2}
    assert counts.minimum(2, 1_000) == 2


def test_a_server_in_a_process_of_its_own_tells_its_counts() -> None:
    with embedding_process("--max-texts", "2") as server:
        assert ask(server, ["one", "two", "three"])[0] == 400  # type: ignore[arg-type]
        assert ask(server, ["one", "two"])[0] == 200  # type: ignore[arg-type]
        counts = server.counts()
        assert (counts["requests"], counts["embedded"], counts["statuses"]) == (2, 2, {"400": 1, "200": 1})
        server.reset()
        assert server.counts()["requests"] == 0
