"""A real HTTP server that speaks OpenAI's ``/v1/embeddings``, with its limits, and counts what it is asked.

``with EmbeddingServer() as server:`` serves until the block ends. By itself, ``python embedding_server.py
--port 0 --latency 0.05`` prints its base URL and serves until interrupted. Standard library only.

An answer is chosen in this order: the next of :meth:`EmbeddingServer.script`, else a share set by
:meth:`EmbeddingServer.sometimes`, else the key, the limits of a request and of a minute, a marked text, else
vectors. ``GET /counts`` tells other processes the counts, ``POST /reset`` forgets them.
Equal texts have equal vectors, of length 1; with ``vectors="words"`` texts that share words are close.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import math
import random
import socket
import sys
import threading
import time
from array import array
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.embedding_answers import Answer, Item, failing, invalid, rate_limited, unauthorized
from support.embedding_counts import Counts, Exchange
from support.embedding_vectors import count_tokens, packed_text_vector, text_vector, word_vector

if TYPE_CHECKING:
    from collections.abc import Sequence

    from support.embedding_limits import RateLimit

MAX_TEXTS = 2_048
MAX_TOKENS_PER_TEXT = 8_192
MAX_TOKENS_PER_REQUEST = 300_000
MODELS = {"text-embedding-3-small": 1536, "text-embedding-3-large": 3072, "text-embedding-ada-002": 1536}


class EmbeddingServer:
    """Thread-safe; settings are plain attributes and may change while it serves."""

    def __init__(
        self,
        *,
        dimension: int | None = None,
        latency: float = 0.0,
        vectors: Literal["hash", "words"] = "hash",
        base64_answers: bool = True,
        takes_dimensions: bool = True,
        key: str | None = None,
        refuse_marker: str | None = None,
        break_marker: str | None = None,
        max_texts: int = MAX_TEXTS,
        max_tokens: int = MAX_TOKENS_PER_REQUEST,
        requests_per_minute: RateLimit | None = None,
        tokens_per_minute: RateLimit | None = None,
        port: int = 0,
    ) -> None:
        self.dimension = dimension
        self.latency = latency
        self.vectors = vectors
        self.base64_answers = base64_answers
        self.takes_dimensions = takes_dimensions
        self.key = key
        self.refuse_marker = refuse_marker
        self.break_marker = break_marker
        self.max_texts = max_texts
        self.max_tokens = max_tokens
        self.requests_per_minute = requests_per_minute
        self.tokens_per_minute = tokens_per_minute
        self.counts = Counts()
        self.last_request: dict[str, Any] = {}
        self.last_headers: dict[str, str] = {}
        self._script: deque[Answer] = deque()
        self._shares: list[tuple[float, Answer]] = []
        self._random = random.Random(7)
        self._in_flight = 0
        self._lock = threading.Lock()
        self.stopping = threading.Event()
        self._http = _Server(("127.0.0.1", port), _Handler)
        self._http.owner = self
        self._thread = threading.Thread(
            target=self._http.serve_forever, args=(0.02,), name="embedding-server"
        )

    @property
    def url(self) -> str:
        """The base URL, with ``/v1``."""
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def script(self, *answers: Answer) -> None:
        """Answer the next requests with these, one each."""
        with self._lock:
            self._script.extend(answers)

    def sometimes(self, share: float, answer: Answer) -> None:
        """Answer about ``share`` (0 to 1) of the requests with this."""
        with self._lock:
            self._shares.append((share, answer))

    def reset(self) -> None:
        """Forget counts and scripts; settings stay."""
        with self._lock:
            self.counts = Counts()
            self._script.clear()
            self._shares.clear()

    def start(self) -> Self:
        self._thread.start()
        return self

    def close(self) -> None:
        self.stopping.set()
        self._http.shutdown()
        self._http.close_connections()
        self._http.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def answer(self, request: dict[str, Any], authorization: str) -> tuple[Answer, list[str], int]:
        """Decide on an answer; returns it with the request's texts and tokens."""
        texts = request.get("input")
        texts = [texts] if isinstance(texts, str) else texts
        readable = isinstance(texts, list) and all(isinstance(text, str) for text in texts)
        texts = texts if readable else []
        tokens = [count_tokens(text) for text in texts]
        answer = self._next()
        if answer is None and self.key is not None and authorization != f"Bearer {self.key}":
            answer = unauthorized(f"Incorrect API key provided: {authorization.removeprefix('Bearer ')}.")
        if answer is None:
            answer = self._refusal(request, texts, tokens) if readable else invalid("'$.input' is invalid.")
        return answer or Answer(), texts, sum(tokens)

    def dimension_of(self, request: dict[str, Any]) -> int:
        """How many numbers each vector of the answer has."""
        return int(request.get("dimensions") or self._own_dimension(request))

    def items(self, request: dict[str, Any], texts: Sequence[str]) -> list[Item]:
        """The vectors of an answer, before they are spoiled or packed."""
        dimension = self.dimension_of(request)
        make = word_vector if self.vectors == "words" else text_vector
        return [
            {"object": "embedding", "index": index, "embedding": make(text, dimension)}
            for index, text in enumerate(texts)
        ]

    def summary(self) -> dict[str, Any]:
        """The counts as plain numbers."""
        with self._lock:
            return self.counts.summary()

    def arrived(self) -> None:
        with self._lock:
            self._in_flight += 1
            self.counts.most_at_once = max(self.counts.most_at_once, self._in_flight)

    def record(self, exchange: Exchange, texts: Sequence[str]) -> None:
        with self._lock:
            counts = self.counts
            counts.requests += 1
            counts.texts += exchange.texts
            counts.tokens += exchange.tokens
            counts.statuses[exchange.status] += 1
            counts.sent.update(texts)
            if exchange.status == 200:
                counts.embedded.update(texts)
            counts.log.append(exchange)

    def left(self) -> None:
        with self._lock:
            self._in_flight -= 1

    def _next(self) -> Answer | None:
        with self._lock:
            if self._script:
                return self._script.popleft()
            for share, answer in self._shares:
                if self._random.random() < share:
                    return answer
        return None

    def _refusal(self, request: dict[str, Any], texts: list[str], tokens: list[int]) -> Answer | None:
        model = str(request.get("model"))
        if self.dimension is None and model not in MODELS:
            words = f"The model `{model}` does not exist or you do not have access to it."
            return Answer(status=404, message=words, code="model_not_found", kind="invalid_request_error")
        if "dimensions" in request and not self.takes_dimensions:
            return invalid("This model does not support specifying dimensions.", parameter="dimensions")
        if not texts or not all(texts) or len(texts) > self.max_texts:
            return invalid("'$.input' is invalid. Please check the API reference.")
        if max(tokens) > MAX_TOKENS_PER_TEXT:
            return invalid(
                f"This model's maximum context length is {MAX_TOKENS_PER_TEXT} tokens, however you requested "
                f"{max(tokens)} tokens ({max(tokens)} in your prompt; 0 for the completion)."
            )
        if sum(tokens) > self.max_tokens:
            words = f"Requested {sum(tokens)} tokens, max {self.max_tokens} tokens per request"
            return invalid(words, code="max_tokens_per_request")
        if wait := self._wait(sum(tokens)):
            return rate_limited(math.ceil(wait), milliseconds=math.ceil(wait * 1000))
        if self.refuse_marker is not None and any(self.refuse_marker in text for text in texts):
            return invalid("The input was refused by the content policy.", code="content_policy_violation")
        if self.break_marker is not None and any(self.break_marker in text for text in texts):
            return failing(500)
        return None

    def _wait(self, tokens: int) -> float:
        for limit, units in ((self.requests_per_minute, 1), (self.tokens_per_minute, tokens)):
            if limit is not None and (wait := limit.take(units)):
                return wait
        return 0.0

    def _own_dimension(self, request: dict[str, Any]) -> int:
        return self.dimension or MODELS[str(request.get("model"))]


class _Server(ThreadingHTTPServer):
    owner: EmbeddingServer
    daemon_threads = False
    request_queue_size = 128

    def __init__(self, *arguments: Any) -> None:
        self._connections: set[socket.socket] = set()
        super().__init__(*arguments)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def close_connections(self) -> None:
        """Wake the threads that wait on an idle connection, so that closing need not wait for clients."""
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_GET(self) -> None:
        counts = self.server.owner.summary()
        self._send(200 if self.path == "/counts" else 404, json.dumps(counts).encode(), ())

    def do_POST(self) -> None:
        owner, at = self.server.owner, time.monotonic()
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/reset":
            owner.reset()
            self._send(200, b"{}", ())
            return
        if self.path.split("?")[0] != "/v1/embeddings":
            self._send(
                404, json.dumps({"error": {"message": f"Invalid URL (POST {self.path})"}}).encode(), ()
            )
            return
        owner.arrived()
        try:
            self._answer(owner, at, json.loads(body))
        finally:
            owner.left()

    def _answer(self, owner: EmbeddingServer, at: float, request: dict[str, Any]) -> None:
        owner.last_request, owner.last_headers = (
            request,
            {key.lower(): value for key, value in self.headers.items()},
        )
        answer, texts, tokens = owner.answer(request, self.headers.get("Authorization", ""))
        answered = at + owner.latency + answer.delay
        exchange = Exchange(
            at=at,
            answered=answered,
            texts=len(texts),
            tokens=tokens,
            status=answer.status,
            retry_after=answer.retry_after_seconds,
        )
        owner.record(exchange, texts)
        if answer.raw is not None:
            body = answer.raw
        elif answer.status == 200:
            body = self._vectors(owner, request, texts, tokens, answer)
        else:
            names = {"message": answer.message, "type": answer.kind}
            body = json.dumps({"error": names | {"param": answer.parameter, "code": answer.code}}).encode()
        pause = answered - time.monotonic()  # making the vectors counts as latency
        if pause > 0 and owner.stopping.wait(pause):
            self.close_connection = True
            return
        self._send(answer.status, body, answer.headers, answer.cut)

    def _vectors(
        self, owner: EmbeddingServer, request: dict[str, Any], texts: list[str], tokens: int, answer: Answer
    ) -> bytes:
        packed = owner.base64_answers and request.get("encoding_format") == "base64"
        if packed and owner.vectors == "hash" and answer.spoil is None:
            return self._packed(owner.dimension_of(request), texts, tokens, str(request.get("model")))
        items = owner.items(request, texts)
        if answer.spoil is not None:
            items = answer.spoil(items)
        for item in items:
            numbers = item["embedding"]
            if not packed or None in numbers:
                item["embedding"] = list(numbers)
            else:
                item["embedding"] = base64.b64encode(array("f", numbers).tobytes()).decode()
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return json.dumps(
            {"object": "list", "data": items, "model": request.get("model"), "usage": usage}
        ).encode()

    def _packed(self, dimension: int, texts: list[str], tokens: int, model: str) -> bytes:
        """What most answers are, without the detour over numbers and objects: it is ten times as quick."""
        items = (
            b'{"object":"embedding","index":%d,"embedding":"%b"}'
            % (index, packed_text_vector(text, dimension))
            for index, text in enumerate(texts)
        )
        return b'{"object":"list","data":[%b],"model":%b,"usage":{"prompt_tokens":%d,"total_tokens":%d}}' % (
            b",".join(items),
            json.dumps(model).encode(),
            tokens,
            tokens,
        )

    def _send(self, status: int, body: bytes, headers: Sequence[tuple[str, str]], cut: str = "no") -> None:
        sent = body if cut == "no" else body[: len(body) // 2]
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body if cut == "connection" else sent)))
        for header, value in headers:
            self.send_header(header, value)
        self.end_headers()
        self.wfile.write(sent)
        self.wfile.flush()
        self.close_connection = self.close_connection or cut == "connection"

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the counts say it."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description="An OpenAI-compatible embeddings server for tests and benchmarks."
    )
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds per request")
    parser.add_argument("--dimension", type=int, default=None, help="of any model; else OpenAI's models only")
    parser.add_argument("--max-texts", type=int, default=MAX_TEXTS, help="of one request")
    parser.add_argument("--max-tokens", type=int, default=MAX_TOKENS_PER_REQUEST, help="of one request")
    parser.add_argument("--vectors", choices=["hash", "words"], default="hash")
    options = parser.parse_args()
    with EmbeddingServer(**vars(options)) as server:
        print(server.url, flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print(f"{server.counts.requests} requests, {server.counts.texts} texts", flush=True)


if __name__ == "__main__":
    main()
