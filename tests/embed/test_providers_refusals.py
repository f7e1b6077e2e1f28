from __future__ import annotations

import pickle
import socket
import traceback
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

import pytest
from support import embedding_answers as answers
from support.embedding_server import EmbeddingServer

from docyard_schema.errors import ConfigError, DocyardError
from docyard_workers.embed import errors
from docyard_workers.embed.providers import EmbeddingConfig, choose_provider
from docyard_workers.embed.providers.refusals import mask, provider_words, retry_after

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY = "sk-test-0123456789abcdef"
TEXT = "The quick brown fox's secret diary, which nobody but the fox may ever read."


@pytest.fixture
def server() -> Iterator[EmbeddingServer]:
    with EmbeddingServer(key=KEY) as server:
        yield server


async def refusal(server: EmbeddingServer, *script: Any, **settings: Any) -> errors.EmbeddingError:
    """The error of one request; proves of every one that it pickles and keeps what it was told to itself."""
    server.script(*script)
    config = EmbeddingConfig(**{"base_url": server.url, "dimension": 64, "api_key": KEY, **settings})
    provider = choose_provider(config, {})
    try:
        with pytest.raises(errors.EmbeddingError) as caught:
            await provider.embed([TEXT, "another text"])
    finally:
        await provider.aclose()
    error = caught.value
    shown = "".join(traceback.format_exception(error)) + repr(error) + str(error) + repr(error.__dict__)
    assert KEY not in shown
    assert "secret diary" not in shown
    assert error.__cause__ is None
    assert error.__context__ is None
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.__dict__) == (type(error), str(error), error.__dict__)
    assert server.counts.requests <= 1
    return error


async def test_429_is_rate_limited_and_says_for_how_long(server) -> None:
    error = await refusal(server, answers.rate_limited(2))
    assert type(error) is errors.RateLimited
    assert error.retryable
    assert error.retry_after == timedelta(seconds=2)
    assert (error.status, error.provider_code) == (429, "rate_limit_exceeded")


async def test_429_without_a_time_says_so(server) -> None:
    error = await refusal(server, answers.rate_limited(None))
    assert type(error) is errors.RateLimited
    assert error.retry_after is None


async def test_429_for_want_of_money_is_another_thing(server) -> None:
    error = await refusal(server, answers.quota_exhausted())
    assert type(error) is errors.QuotaExhausted
    assert not error.retryable
    assert "credit" in error.hint


async def test_402_is_for_want_of_money_too(server) -> None:
    assert type(await refusal(server, answers.failing(402))) is errors.QuotaExhausted


async def test_a_wrong_key_is_refused_without_repeating_it(server) -> None:
    wrong = "sk-wrong-9876543210"
    error = await refusal(server, api_key=wrong)
    assert type(error) is errors.ProviderRefused
    assert not error.retryable
    assert wrong not in str(error)
    assert "Incorrect API key provided" in str(error)
    assert "OPENAI_API_KEY" in error.hint


async def test_403_is_refused(server) -> None:
    assert type(await refusal(server, answers.failing(403))) is errors.ProviderRefused


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_a_refused_request_keeps_the_providers_words_but_not_the_text(server, status) -> None:
    error = await refusal(server, answers.failing(status, f"This input is improper: '{TEXT}' (see policy)."))
    assert type(error) is errors.TextRefused
    assert not error.retryable
    assert "This input is improper: '[…]' (see policy)." in str(error)
    assert error.details == {"texts": 2}


async def test_a_marked_text_is_refused_by_the_server(server) -> None:
    server.refuse_marker = "fox"
    error = await refusal(server)
    assert type(error) is errors.TextRefused
    assert error.provider_code == "content_policy_violation"


async def test_long_words_are_cut(server) -> None:
    error = await refusal(server, answers.failing(400, "No! " * 1000))
    assert len(str(error)) < 350


async def test_a_server_that_takes_no_dimension_is_no_texts_fault(server) -> None:
    server.takes_dimensions = False
    error = await refusal(server)
    assert type(error) is errors.ProviderRefused
    assert "dimension" in error.hint


async def test_an_unknown_model_is_a_mistake_in_the_settings(server) -> None:
    error = await refusal(server, model="no-such-model")
    assert type(error) is errors.ModelNotFound
    assert isinstance(error, ConfigError)
    assert "no-such-model" in str(error)
    assert error.model == "no-such-model"


async def test_a_base_url_without_v1_is_a_mistake_in_the_settings(server) -> None:
    error = await refusal(server, base_url=server.url.removesuffix("/v1"))
    assert type(error) is errors.ModelNotFound
    assert "/v1" in error.hint


@pytest.mark.parametrize("status", [500, 502, 503, 529, 408, 409])
async def test_the_providers_own_failures_are_worth_another_try(server, status) -> None:
    error = await refusal(server, answers.failing(status, headers=(("Retry-After", "7"),)))
    assert type(error) is errors.ProviderUnavailable
    assert error.retryable
    assert (error.status, error.retry_after) == (status, timedelta(seconds=7))


async def test_a_slow_answer_runs_into_the_time_limit(server) -> None:
    error = await refusal(server, answers.slow(5), timeout=timedelta(seconds=0.2))
    assert type(error) is errors.ProviderUnavailable
    assert error.status is None


async def test_a_connection_that_ends_early_is_worth_another_try(server) -> None:
    error = await refusal(server, answers.cut_off())
    assert type(error) is errors.ProviderUnavailable


async def test_nobody_listening_is_worth_another_try(server) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
        error = await refusal(server, base_url=address)
    assert type(error) is errors.ProviderUnavailable
    assert "base URL" in error.hint


def test_every_error_is_one_of_docyards_with_a_code_of_its_own() -> None:
    kinds = [getattr(errors, name) for name in errors.__all__]
    assert all(issubclass(kind, DocyardError) for kind in kinds)
    assert len({kind.code for kind in kinds}) == len(kinds)
    assert all(kind.__name__ in (errors.__doc__ or "") for kind in kinds)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "0"}, 0),
        ({"retry-after": "-3"}, 0),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "1e300"}, None),
        ({"retry-after": "tomorrow"}, None),
        ({"retry-after": ""}, None),
        ({}, None),
    ],
)
def test_retry_after_is_read_in_all_its_forms(headers, seconds) -> None:
    expected = None if seconds is None else timedelta(seconds=seconds)
    assert retry_after(headers) == expected


def test_retry_after_as_a_date_is_counted_from_now() -> None:
    moment = datetime.now(UTC) + timedelta(seconds=60)
    for date in (format_datetime(moment, usegmt=True), format_datetime(moment.replace(tzinfo=None))):
        pause = retry_after({"retry-after": date})
        assert pause is not None
        assert timedelta(seconds=50) < pause <= timedelta(seconds=60)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"message": "No.\n  Never."}, "No. Never."),
        ({"detail": "Not so."}, "Not so."),
        ({"detail": [{"msg": "too long", "input": "the text"}, {"msg": "bad"}]}, "too long; bad"),
        ({"error": "Model is loading"}, "Model is loading"),
        ({"input": ["the text"]}, "no words that can be shown"),
        ("plain words", "plain words"),
        ("<html><body>502</body></html>", "no words that can be shown"),
        (None, "no words that can be shown"),
    ],
)
def test_only_the_sentence_for_people_is_taken_from_an_error(body, words) -> None:
    assert provider_words(body) == words


def test_a_quotation_of_part_of_a_text_is_masked() -> None:
    assert mask(f"near '{TEXT[10:50]}'", [TEXT], ()) == "near '[…]'"
    assert mask("a short text is no quotation", ["text", "is"], ()) == "a short text is no quotation"
    long = mask("Bearer " + KEY + " " + "x" * 400, [], (KEY, "x"))
    assert long.startswith("Bearer […] xxx")
    assert len(long) == 300
