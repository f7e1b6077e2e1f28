from __future__ import annotations

import asyncio
import importlib.util
import logging
import math
import random
import shutil
import sys
import warnings
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from docyard_schema.errors import ConfigError, InvalidInput
from docyard_workers.embed.providers import wordllama as module
from docyard_workers.embed.providers.wordllama import WordLlamaProvider

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from docyard_workers.embed.providers import Vector

pytest.importorskip("wordllama")


@pytest.fixture
async def provider() -> AsyncIterator[WordLlamaProvider]:
    provider = WordLlamaProvider()
    yield provider
    await provider.aclose()


def similarity(one: Vector | None, other: Vector | None) -> float:
    assert one is not None
    assert other is not None
    return sum(a * b for a, b in zip(one, other, strict=True))


async def test_vectors_are_unit_vectors_and_closer_for_like_meaning(provider) -> None:
    texts = [
        "How do I repair a bicycle tyre?",
        "Mending a punctured bike wheel",
        "Interest rates of the central bank",
    ]
    embedded = await provider.embed(texts)
    bicycle, wheel, bank = embedded.vectors
    assert all(len(vector) == 256 for vector in embedded.vectors)
    assert all(math.hypot(*vector) == pytest.approx(1, abs=1e-5) for vector in embedded.vectors)
    assert similarity(bicycle, wheel) > similarity(bicycle, bank) + 0.2
    assert embedded.tokens == sum(provider.count_tokens(text) for text in texts)


async def test_a_texts_vector_does_not_depend_on_its_company(provider) -> None:
    generator = random.Random(1)
    words = ["the", "quick", "brown", "postgres", "vacuum", "tuple", "é", "☃", "漢字"]
    texts = [" ".join(generator.choices(words, k=generator.randint(1, 300))) for _ in range(60)]
    together = (await provider.embed(texts)).vectors
    alone = [(await provider.embed([text])).vectors[0] for text in texts]
    assert together == alone


async def test_texts_without_a_vector_fail_alone(provider) -> None:
    embedded = await provider.embed(["", "good", "x" * 40_000, "\udfff"])
    assert [vector is not None for vector in embedded.vectors] == [False, True, False, False]
    assert [failure.code for failure in embedded.failures.values()] == ["empty", "too_long", "not_unicode"]


async def test_a_vector_of_zeros_fails_alone_and_warns_nobody(provider) -> None:
    await provider.start()
    provider._inference.embedding[:] = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        embedded = await provider.embed(["one", "two"])
    assert [failure.code for failure in embedded.failures.values()] == ["not_finite", "not_finite"]
    assert list(embedded.vectors) == [None, None]


@pytest.mark.parametrize("text", [" ", "\n\n", "☃", "\x00", "\u200b", "🜁🜂", "\U0010ffff"])
async def test_odd_texts_have_a_vector(provider, text) -> None:
    assert (await provider.embed([text])).failures == {}


@pytest.mark.parametrize("dimension", [64, 128])
async def test_fewer_dimensions_are_the_first_ones_made_unit_again(provider, dimension) -> None:
    short = WordLlamaProvider(dimension=dimension)
    whole = (await provider.embed(["a text"])).vectors[0]
    part = (await short.embed(["a text"])).vectors[0]
    await short.aclose()
    assert whole is not None
    norm = math.hypot(*whole[:dimension])
    assert list(part or ()) == pytest.approx([number / norm for number in whole[:dimension]], abs=1e-6)
    assert short.model.dimension == dimension
    assert short.model.hash != provider.model.hash


async def test_identity_follows_the_bytes_of_the_files(provider, tmp_path) -> None:
    original = provider._folder
    for part in ("weights", "tokenizers"):
        shutil.copytree(original / part, tmp_path / part)
    assert module._hash_of_files(tmp_path, 256) == provider.model.hash
    for path in tmp_path.glob("*/*l2_supercat*"):
        changed = bytearray(path.read_bytes())
        before = module._hash_of_files(tmp_path, 256)
        changed[len(changed) // 2] ^= 1
        path.write_bytes(changed)
        assert module._hash_of_files(tmp_path, 256) != before


async def test_the_loop_turns_while_vectors_are_made(provider) -> None:
    await provider.start()
    work = asyncio.create_task(provider.embed(["a few words of no importance " * 40] * 1000))
    turns = 0
    while not work.done():
        await asyncio.sleep(0.002)
        turns += 1
    assert (await work).failures == {}
    assert turns >= 5


async def test_calls_at_once_agree_with_calls_in_turn(provider) -> None:
    texts = [f"text number {number} " * (number % 7 + 1) for number in range(100)]
    first = await provider.embed(texts)
    others = await asyncio.gather(*(provider.embed(texts) for _ in range(6)))
    assert all(other.vectors == first.vectors for other in others)


async def test_loading_leaves_the_users_logging_alone_and_is_quiet() -> None:
    script = (
        "import asyncio, logging\n"
        "from docyard_workers.embed.providers.wordllama import WordLlamaProvider\n"
        "async def main():\n"
        "    provider = WordLlamaProvider()\n"
        "    await provider.embed(['text'])\n"
        "    print(logging.root.handlers, logging.root.level)\n"
        "asyncio.run(main())\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-W", "error", "-c", script),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, complaints = await process.communicate()
    assert output.decode().strip() == f"[] {logging.WARNING}"
    assert complaints == b""


def test_without_the_package_the_way_out_is_named(monkeypatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'docyard\[local\]'"):
        WordLlamaProvider()


async def test_without_the_weights_the_way_out_is_named_and_nothing_is_downloaded(
    provider, monkeypatch
) -> None:
    monkeypatch.setattr(provider, "_folder", Path("/nonexistent"))
    with pytest.raises(ConfigError, match=r"lacks .*safetensors"):
        await provider.start()


async def test_it_costs_nothing_and_closes_twice() -> None:
    provider = WordLlamaProvider()
    assert provider.limits.price_per_million_tokens == Decimal(0)
    assert (await provider.embed([])).requests == 0
    await provider.aclose()
    await provider.aclose()
    with pytest.raises(InvalidInput, match="closed"):
        await provider.embed(["text"])
