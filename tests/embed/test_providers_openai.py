from __future__ import annotations

import asyncio
import gc
import logging
import math
import sys
from array import array
from typing import TYPE_CHECKING, Any

import pytest
from support import embedding_answers as answers
from support.embedding_server import EmbeddingServer
from support.embedding_vectors import text_vector

from docyard_schema.errors import InvalidInput
from docyard_workers.embed.errors import ProviderAnswerInvalid, WrongDimension
from docyard_workers.embed.providers import EmbeddingConfig, choose_provider

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from docyard_workers.embed.providers import EmbeddingProvider

KEY = "sk-test-0123456789abcdef"


@pytest.fixture
def server() -> Iterator[EmbeddingServer]:
    with EmbeddingServer(key=KEY) as server:
        yield server


def provider_for(server: EmbeddingServer, **settings: Any) -> EmbeddingProvider:
    config = EmbeddingConfig(base_url=server.url, **{"dimension": 64, **settings})
    return choose_provider(config, {"OPENAI_API_KEY": KEY})


@pytest.fixture
async def provider(server: EmbeddingServer) -> AsyncIterator[EmbeddingProvider]:
    provider = provider_for(server)
    yield provider
    await provider.aclose()


async def test_vectors_come_in_the_order_of_the_texts(provider, server) -> None:
    texts = ["one", "two", "three"]
    embedded = await provider.embed(texts)
    assert embedded.vectors == [text_vector(text, 64) for text in texts]
    assert all(isinstance(vector, array) and vector.typecode == "f" for vector in embedded.vectors)
    assert (embedded.requests, embedded.failures) == (1, {})
    assert embedded.tokens == server.counts.tokens == sum(provider.count_tokens(text) for text in texts)


async def test_an_answer_in_another_order_is_sorted_by_index(provider, server) -> None:
    server.script(answers.reversed_order())
    embedded = await provider.embed(["one", "two", "three"])
    assert embedded.vectors == [text_vector(text, 64) for text in ("one", "two", "three")]


async def test_base64_is_asked_for_and_floats_are_understood(provider, server) -> None:
    packed = await provider.embed(["one"])
    assert server.last_request["encoding_format"] == "base64"
    server.base64_answers = False
    assert (await provider.embed(["one"])).vectors == packed.vectors


async def test_the_dimension_is_sent_only_if_configured(provider, server) -> None:
    await provider.embed(["one"])
    assert server.last_request["dimensions"] == 64
    plain = provider_for(server, dimension=None)
    embedded = await plain.embed(["one"])
    await plain.aclose()
    assert "dimensions" not in server.last_request
    assert embedded.vectors[0] is not None
    assert len(embedded.vectors[0]) == plain.model.dimension == 1536


async def test_an_unknown_models_dimension_is_asked_once_at_start(server) -> None:
    server.dimension, server.takes_dimensions = 384, False
    provider = provider_for(server, model="nomic-embed-text", dimension=None)
    with pytest.raises(InvalidInput, match="start"):
        _ = provider.model
    await asyncio.gather(provider.start(), provider.start(), provider.embed(["text"]))
    await provider.start()
    await provider.aclose()
    assert (provider.model.name, provider.model.dimension) == ("nomic-embed-text", 384)
    assert server.counts.requests == 2


async def test_nothing_is_asked_before_the_first_texts_if_the_dimension_is_known(provider, server) -> None:
    await provider.start()
    assert server.counts.requests == 0


async def test_identity_differs_by_name_and_dimension_and_only_by_them(server) -> None:
    hashes = {
        provider_for(server, model=model, dimension=dimension).model.hash
        for model in ("text-embedding-3-small", "text-embedding-3-large")
        for dimension in (64, 256)
    }
    assert len(hashes) == 4
    assert all(len(digest) == 64 for digest in hashes)
    other = choose_provider(EmbeddingConfig(dimension=64), {"OPENAI_API_KEY": "another"})
    assert other.model == provider_for(server).model


async def test_the_largest_request_that_the_limits_allow_is_taken(provider, server) -> None:
    texts = [f"{number:<580}" for number in range(2048)]
    embedded = await provider.embed(texts)
    assert all(vector is not None for vector in embedded.vectors)
    assert (server.counts.requests, server.counts.texts, server.counts.tokens) == (1, 2048, 2048 * 145)


async def test_more_than_one_request_may_carry_is_refused_before_it_is_sent(provider, server) -> None:
    with pytest.raises(InvalidInput, match="2,048 texts"):
        await provider.embed(["x"] * 2049)
    with pytest.raises(InvalidInput, match="300,000 tokens"):
        await provider.embed(["x" * 32_000] * 40)
    assert server.counts.requests == 0


async def test_texts_that_cannot_be_sent_fail_alone(provider, server) -> None:
    embedded = await provider.embed(["", "good", "x" * 40_000, "\ud800"])
    assert [vector is not None for vector in embedded.vectors] == [False, True, False, False]
    codes = {index: failure.code for index, failure in embedded.failures.items()}
    assert codes == {0: "empty", 2: "too_long", 3: "not_unicode"}
    assert server.counts.texts == 1


async def test_no_request_is_sent_for_no_texts(provider, server) -> None:
    assert (await provider.embed([])).requests == 0
    assert (await provider.embed([""])).requests == 0
    assert server.counts.requests == 0


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (0.0, "zero_vector"),
        (math.nan, "not_finite"),
        (math.inf, "not_finite"),
        (None, "not_finite"),
        (1e30, "out_of_range"),
        (1e-9, "zero_vector"),
    ],
)
@pytest.mark.parametrize("packed", [True, False])
async def test_a_vector_that_cannot_be_searched_fails_alone(provider, server, number, code, packed) -> None:
    server.base64_answers = packed
    server.script(answers.one_vector(number, position=1))
    embedded = await provider.embed(["one", "two", "three"])
    assert [vector is not None for vector in embedded.vectors] == [True, False, True]
    assert {index: failure.code for index, failure in embedded.failures.items()} == {1: code}


async def test_vectors_of_another_dimension_are_permanently_refused(provider, server) -> None:
    server.script(answers.wrong_dimension())
    with pytest.raises(WrongDimension, match=r"64 dimensions.*63") as caught:
        await provider.embed(["one"])
    assert not caught.value.retryable
    assert caught.value.details == {"expected": 64, "received": 63}


@pytest.mark.parametrize(
    "answer",
    [
        answers.too_few(),
        answers.same_index(),
        answers.truncated(),
        answers.garbage(),
        answers.garbage(b""),
        answers.garbage(b"[]"),
        answers.garbage(b'{"data": null}'),
        answers.garbage(b'{"data": ["x", "y"]}'),
        answers.garbage(b'{"data": [{"embedding": "AAA"}, {"embedding": "AAAA"}]}'),
        answers.garbage(b'{"data": [{"embedding": "\xc3\xa9"}, {}]}'),
        answers.garbage(b'{"data": [{"embedding": [1, "a"]}, {"embedding": [1]}]}'),
        answers.garbage(b'{"data": [{"index": 7, "embedding": [1]}, {"embedding": [1]}]}'),
        answers.garbage(b"\xff\xfe"),
    ],
)
async def test_an_answer_that_is_none_is_worth_another_try(provider, server, answer) -> None:
    server.script(answer)
    with pytest.raises(ProviderAnswerInvalid) as caught:
        await provider.embed(["one", "two"])
    assert caught.value.retryable
    assert (caught.value.provider, caught.value.model) == ("openai", "text-embedding-3-small")
    assert (await provider.embed(["one", "two"])).failures == {}


async def test_answers_without_usage_and_index_are_counted_by_the_estimate(provider, server) -> None:
    server.script(answers.garbage(b'{"data": [{"embedding": [%s]}]}' % b",".join([b"1"] * 64)))
    assert (await provider.embed(["four" * 3])).tokens == 3


async def test_several_requests_travel_at_once_over_kept_connections(provider, server) -> None:
    server.latency = 0.05
    await asyncio.gather(*(provider.embed([f"text {number}"]) for number in range(8)))
    assert server.counts.most_at_once == 8
    assert server.counts.requests == 8


async def test_headers_and_organisation_are_sent(server) -> None:
    environment = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": server.url, "OPENAI_ORG_ID": "org-1"}
    config = EmbeddingConfig(dimension=8, headers={"api-key": "azure-style-secret"})
    provider = choose_provider(config, environment)
    await provider.embed(["one"])
    await provider.aclose()
    assert server.last_headers["api-key"] == "azure-style-secret"
    assert server.last_headers["openai-organization"] == "org-1"
    assert server.last_headers["authorization"] == f"Bearer {KEY}"


async def test_closing_twice_is_safe_and_leaves_nothing_open(server, recwarn) -> None:
    provider = provider_for(server)
    await provider.embed(["one"])
    await provider.aclose()
    await provider.aclose()
    with pytest.raises(InvalidInput, match="closed"):
        await provider.embed(["one"])
    del provider
    gc.collect()
    await asyncio.sleep(0)
    assert not recwarn.list


async def test_a_cancelled_request_leaves_the_provider_usable(provider, server) -> None:
    server.script(answers.slow(5))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await provider.embed(["one"])
    assert (await provider.embed(["one"])).failures == {}


async def test_neither_key_nor_text_is_logged_or_shown(provider, caplog) -> None:
    caplog.set_level(logging.INFO)
    await provider.embed(["a text that nobody should see"])
    shown = caplog.text + repr(provider) + provider.account + repr(EmbeddingConfig(api_key=KEY))
    assert KEY not in shown
    assert "nobody" not in shown


async def test_the_account_tells_keys_and_hosts_apart(server) -> None:
    def account(**settings: Any) -> str:
        return choose_provider(EmbeddingConfig(**settings), {}).account

    accounts = {account(api_key="a"), account(api_key="b"), account(api_key="a", base_url=server.url)}
    assert len(accounts) == 3
    assert account(api_key="a", model="other") == account(api_key="a")


async def test_importing_the_providers_loads_neither_client_nor_model() -> None:
    script = (
        "import sys, docyard_workers.embed.providers\n"
        "print([name for name in ('openai', 'wordllama', 'numpy') if name in sys.modules])"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert output.strip() == b"[]"


async def test_whoever_asks_before_the_sending_may_still_say_no(provider, server) -> None:
    class NotNow(Exception):
        pass

    async def refuse() -> None:
        raise NotNow

    asked: list[str] = []

    async def agree() -> None:
        asked.append("agreed")

    with pytest.raises(NotNow):
        await provider.embed(["One."], before_sending=refuse)
    assert server.counts.requests == 0
    answer = await provider.embed(["One."], before_sending=agree)
    assert (len(answer.vectors), asked, server.counts.requests) == (1, ["agreed"], 1)
    await provider.embed(["Two."])
    assert asked == ["agreed"], "it belongs to its call alone"
