"""Requests to an OpenAI-compatible endpoint: concurrency, retries, budget and cache.

Any server of the chat completions protocol: hosted ones, vLLM, Ollama, llama.cpp. The key is read
from the environment and goes nowhere else.
"""

import asyncio
import collections
import concurrent.futures
import dataclasses
import json
import math
import os
import random
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime
from types import ModuleType
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

from metajax.characters import visible
from metajax.fields import bounded, check_fields
from metajax.knowledge.extraction import prompt
from metajax.knowledge.extraction.answers import Answer, Journal, Usage, content_key, record, sum_of
from metajax.knowledge.extraction.schema import Schema
from metajax.knowledge.extraction.texts import Text

__all__ = ["Asked", "EndpointError", "EndpointSettings", "Status", "ask", "cost_of", "propose"]

T = TypeVar("T")

# Status codes after which the same request may succeed.
_TRANSIENT = (408, 409, 425, 429)
_LONGEST_WAIT_S = 60.0
# Answers that are not of the format are paid for each time.
_MALFORMED = 3
# Requests in a row that were given up, after which the endpoint counts as down.
_GIVEN_UP = 3
_PROPOSAL_TOKENS = 4000
# Tokens besides the text of a request: roles, separators, the JSON schema.
_OVERHEAD = 1000


class EndpointError(ValueError):
    """An endpoint that refuses, or is not there."""


@dataclasses.dataclass(frozen=True)
class EndpointSettings:
    """Settings of requests.

    Raises:
        ValueError: If a value is out of its range, a budget of money has no prices, or an endpoint
            is no http address.
    """

    model: str = ""
    """Name of the model, as the endpoint knows it."""
    _: dataclasses.KW_ONLY
    endpoint: str | None = None
    """Address of the endpoint, such as http://localhost:8000/v1; by default that of OpenAI."""
    key_variable: str = "OPENAI_API_KEY"
    """Environment variable that holds the key; not needed for an endpoint without keys."""
    texts_per_request: int = bounded(1, least=1, most=100)
    """Texts in one request."""
    concurrency: int = bounded(4, least=1, most=256)
    """Requests at a time."""
    attempts: int = bounded(6, least=1, most=20)
    """Attempts at a request before it is given up."""
    backoff: float = bounded(1.0, least=0, most=60)
    """Seconds before the second attempt; doubled before each further one, and drawn from half of
    that to all of it. What the endpoint asks for comes first."""
    timeout: float = bounded(120.0, above=0, most=3600)
    """Seconds after which a request counts as lost."""
    answer_tokens: int = bounded(1000, least=16)
    """Most tokens of an answer, for each text of the request."""
    most_tokens: int = bounded(0, least=0)
    """Budget of tokens, in and out, of all runs on one folder, as far as the endpoint reports them;
    0 for none. No request begins that might exceed it."""
    most_cost: float = bounded(0.0, least=0)
    """Budget of money likewise, in the currency of the prices."""
    price_input: float = bounded(0.0, least=0)
    """Price of a million tokens of prompts."""
    price_output: float = bounded(0.0, least=0)
    """Price of a million tokens of answers."""

    def __post_init__(self):
        """Checks the settings."""
        check_fields(self)
        if self.most_cost and not (self.price_input or self.price_output):
            raise ValueError(
                "most_cost needs price_input and price_output, the prices of a million tokens."
            )
        if self.endpoint is not None:
            parts = urlsplit(self.endpoint)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError("endpoint must be an address such as http://localhost:8000/v1.")
            if parts.username or parts.password or parts.query:
                raise ValueError("endpoint must hold no key, which belongs into the environment.")


class Status(NamedTuple):
    """State of a run of requests."""

    done: int
    """Texts that are answered, from the cache or now."""
    total: int
    """Texts in all."""
    usage: Usage
    """Tokens so far, earlier runs on the journal included."""
    cost: float
    """Their price."""


class Asked(NamedTuple):
    """Outcome of `ask`."""

    keys: tuple[str, ...]
    """`[texts]` key of each text's answer in the journal."""
    requests: int
    """Responses that were paid for."""
    cached: int
    """Texts that were answered before."""
    failed: dict[str, str]
    """Texts that got no usable answer, by key, with the reason."""
    stopped: str
    """Why not all was asked: the budget; empty where all was."""


def cost_of(usage: Usage, settings: EndpointSettings) -> float:
    """Price of tokens, in the currency of the prices."""
    return (usage.input * settings.price_input + usage.output * settings.price_output) / 1e6


def ask(
    texts: Sequence[Text],
    schema: Schema,
    settings: EndpointSettings,
    journal: Journal,
    on_status: Callable[[Status], None] = lambda status: None,
) -> Asked:
    """Asks a model for the facts of each text that the journal has no answer for.

    Rate limits, server errors and lost connections are retried. Where an answer is malformed or
    cut, the texts of the request are asked for one by one. A refusal is an answer without facts.

    Args:
        texts: The texts; equal ones are asked for once.
        schema: The relations.
        settings: The endpoint, the budget and the rest.
        journal: Gives answers, and takes new ones as soon as they come.
        on_status: Told the state after each response.

    Returns:
        The outcome; the answers are in the journal.

    Raises:
        ImportError: If openai is not installed.
        EndpointError: If the endpoint refuses the key, the model or the request, or does not
            answer; what was answered before is in the journal.
    """
    version = prompt.prompt_version(schema)
    keys = tuple(content_key(text, settings.model, version) for text in texts)
    wanted = dict(zip(keys, texts, strict=True))
    missing = [(key, text) for key, text in wanted.items() if key not in journal.answers]
    run = _Run(settings, journal, schema, len(texts), keys, on_status)
    size = settings.texts_per_request
    run.queue.extend(missing[n : n + size] for n in range(0, len(missing), size))
    run.tell(0)
    if missing:
        _completed(run.all())
    cached = sum(key not in dict(missing) for key in keys)
    return Asked(keys, run.requests, cached, run.failed, run.stopped)


def propose(
    texts: Sequence[Text], items: str, settings: EndpointSettings, journal: Journal
) -> Schema:
    """Asks a model for relations that a sample of texts states.

    Args:
        texts: The sample.
        items: What the items are, in the plural.
        settings: The endpoint and the budget.
        journal: Keeps the account.

    Returns:
        A schema that is not confirmed.

    Raises:
        ImportError: If openai is not installed.
        EndpointError: As `ask`, or if no answer is usable or the budget is too small.
    """
    run = _Run(settings, journal, None, 1, (), lambda status: None)
    return _completed(run.proposal(texts, items))


class _Unusable(Exception):  # noqa: N818
    """A response without a usable answer."""


class _Run:
    """The requests of one call; all that changes while they are under way."""

    def __init__(
        self,
        settings: EndpointSettings,
        journal: Journal,
        schema: Schema | None,
        total: int,
        keys: Sequence[str],
        on_status: Callable[[Status], None],
    ):
        self.settings, self.journal, self.schema = settings, journal, schema
        self.total, self.on_status = total, on_status
        self.copies = collections.Counter(keys)
        self.done = sum(n for key, n in self.copies.items() if key in journal.answers)
        self.queue: collections.deque[list[tuple[str, Text]]] = collections.deque()
        self.requests, self.stopped = 0, ""
        self.failed: dict[str, str] = {}
        self.usage, self.reserved = journal.usage, Usage()
        self.room = asyncio.Condition()
        self.given_up = 0
        self.key = _key_of(settings)
        # Endpoints that do not know one of these say so, and get it no more.
        self.optional: dict[str, Any] = {"temperature": 0, "seed": 0}

    async def all(self) -> None:
        """Works the queue off."""
        workers = min(self.settings.concurrency, len(self.queue))
        async with self.client() as client:
            tasks = [asyncio.create_task(self.work(client)) for _ in range(workers)]
            try:
                await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def work(self, client: Any) -> None:
        while self.queue and not self.stopped:
            batch = self.queue.popleft()
            try:
                await self.one(client, batch)
                self.given_up = 0
            except _Unusable as reason:
                if len(batch) > 1:
                    # First in the queue, so that a budget ends with whole answers.
                    self.queue.extendleft([pair] for pair in reversed(batch))
                else:
                    self.failed[batch[0][0]] = str(reason)
                self.tell(0)

    async def one(self, client: Any, batch: Sequence[tuple[str, Text]]) -> None:
        """Gets the answers of one request into the journal."""
        assert self.schema is not None
        keys, texts = zip(*batch, strict=True)
        messages, shape = prompt.messages_of(texts, self.schema), prompt.answer_format(self.schema)
        tokens = self.settings.answer_tokens * len(batch)
        for attempt in range(_MALFORMED):
            response = await self.response(client, messages, shape, tokens)
            if response is None:
                return
            usage, finish, content, refusal = response
            time = datetime.now(UTC).isoformat(timespec="seconds")
            if refusal:
                # Of several texts any may be the reason.
                if len(batch) > 1:
                    record(self.journal, usage, (), (), "refused")
                    raise _Unusable("the model refused")
                self.keep(usage, keys, [Answer((), refusal, time)])
                return
            try:
                if finish == "length":
                    raise prompt.MalformedAnswerError("the answer was cut")
                claims = prompt.claims_of(content, len(batch))
            except prompt.MalformedAnswerError as problem:
                record(self.journal, usage, (), (), str(problem))
                self.tell(0)
                last = attempt == _MALFORMED - 1 or len(batch) > 1
                if last:
                    raise _Unusable(str(problem)) from None
                tokens *= 2 if finish == "length" else 1
                continue
            self.keep(usage, keys, [Answer(tuple(one), "", time) for one in claims])
            return

    def keep(self, usage: Usage, keys: Sequence[str], answers: Sequence[Answer]) -> None:
        """Puts answers into the journal."""
        record(self.journal, usage, keys, answers)
        self.tell(sum(self.copies[key] for key in keys))

    async def proposal(self, texts: Sequence[Text], items: str) -> Schema:
        problem = "the budget is too small for the request"
        messages, shape = prompt.proposal_messages(texts, items), prompt.proposal_format()
        async with self.client() as client:
            for _ in range(_MALFORMED):
                response = await self.response(client, messages, shape, _PROPOSAL_TOKENS)
                if response is None:
                    break
                usage, finish, content, refusal = response
                record(self.journal, usage, (), (), "proposal")
                if refusal:
                    problem = f"the model refused: {visible(refusal)[:200]}"
                    break
                try:
                    return prompt.proposed(content, items)
                except prompt.MalformedAnswerError as malformed:
                    problem = str(malformed) if finish != "length" else "the answer was cut"
        raise EndpointError(f"no relations were proposed: {problem}.")

    async def response(
        self, client: Any, messages: Any, shape: Any, tokens: int
    ) -> tuple[Usage, str, str, str] | None:
        """Returns usage, reason of the end, content and refusal; None where the budget ends."""
        # A token of text is a byte at least.
        most = Usage(
            len(json.dumps([messages, shape], ensure_ascii=False).encode()) + _OVERHEAD, tokens
        )
        async with self.room:
            # What is under way may cost less than is reserved for it.
            await self.room.wait_for(
                lambda: not self.exceeded(most) or self.reserved == Usage() or self.stopped
            )
            self.stopped = self.stopped or self.exceeded(most)
            if self.stopped:
                self.room.notify_all()
                return None
            self.reserved = sum_of(self.reserved, most)
        try:
            completion = await self.attempts(client, messages, shape, tokens)
            self.requests += 1
            usage = _usage_of(completion) or most
            self.usage = sum_of(self.usage, usage)
        finally:
            async with self.room:
                self.reserved = sum_of(self.reserved, Usage(-most.input, -most.output))
                self.room.notify_all()
        choices = getattr(completion, "choices", None) or [None]
        message = getattr(choices[0], "message", None)
        if message is None:
            return usage, "", "", ""
        finish = str(choices[0].finish_reason)
        refusal = str(message.refusal or "")[:1000]
        if finish == "content_filter":
            refusal = refusal or "content filter"
        return usage, finish, str(message.content or ""), refusal

    async def attempts(self, client: Any, messages: Any, shape: Any, tokens: int) -> Any:
        """Sends a request until it succeeds; waits in between."""
        openai = _openai()
        limit = "max_completion_tokens" if self.settings.endpoint is None else "max_tokens"
        attempt, problem = 0, ""
        while attempt < self.settings.attempts:
            if attempt:
                await asyncio.sleep(self.pause(attempt, problem))
            try:
                return await client.chat.completions.create(
                    model=self.settings.model,
                    messages=messages,
                    response_format=shape,
                    **{limit: tokens},
                    **self.optional,
                )
            except openai.APIStatusError as error:
                if error.status_code == 400 and error.param in self.optional:
                    self.optional.pop(error.param)
                    continue
                transient = error.status_code in _TRANSIENT or error.status_code >= 500
                # A rate limit passes, an empty account does not.
                if not transient or error.code == "insufficient_quota":
                    told = error.body.get("message") if isinstance(error.body, dict) else None
                    said = f"{error.status_code}: {told or error.message}"
                    raise EndpointError(self.said(said)) from None
                problem = error
            except openai.APIConnectionError as error:
                problem = error
            except (openai.OpenAIError, ValueError) as error:
                # A body that is no JSON, or no completion.
                problem = error
            attempt += 1
        self.given_up += 1
        said = f"gave up after {attempt} attempts: {problem}"
        if self.given_up >= _GIVEN_UP or self.schema is None:
            raise EndpointError(self.said(said)) from None
        raise _Unusable(self.scrubbed(said))

    def pause(self, attempt: int, problem: Any) -> float:
        """Seconds to wait before an attempt."""
        headers = getattr(getattr(problem, "response", None), "headers", {})
        try:
            asked = float(headers.get("retry-after", ""))
        except ValueError:
            asked = math.nan
        if 0 <= asked <= _LONGEST_WAIT_S:
            return asked
        longest = min(self.settings.backoff * 2 ** (attempt - 1), _LONGEST_WAIT_S)
        return longest * random.uniform(0.5, 1)

    def exceeded(self, more: Usage) -> str:
        """Names the budget that a request might exceed; empty where none."""
        settings = self.settings
        might = sum_of(sum_of(self.usage, self.reserved), more)
        if settings.most_tokens and sum(might) > settings.most_tokens:
            return f"the budget of {settings.most_tokens:,} tokens"
        if settings.most_cost and cost_of(might, settings) > settings.most_cost:
            return f"the budget of {settings.most_cost:g}"
        return ""

    def tell(self, answered: int) -> None:
        """Tells the state, after some more texts are answered."""
        self.done += answered
        usage = self.journal.usage
        self.on_status(Status(self.done, self.total, usage, cost_of(usage, self.settings)))

    def client(self) -> Any:
        return _openai().AsyncOpenAI(
            api_key=self.key,
            base_url=self.settings.endpoint,
            timeout=self.settings.timeout,
            max_retries=0,
        )

    def said(self, problem: str) -> str:
        where = self.settings.endpoint or "the endpoint of OpenAI"
        return f"{where}: {self.scrubbed(problem)}"

    def scrubbed(self, text: str) -> str:
        """A server may repeat the key that it refuses."""
        line = " ".join(visible(text).replace(self.key, "[key]").split())
        return line[:500].rstrip(".") + "."


def _usage_of(completion: Any) -> Usage | None:
    """Tokens that a response says it has used; None where it does not say."""
    used = getattr(completion, "usage", None)
    given: Any = getattr(used, "prompt_tokens", None)
    taken: Any = getattr(used, "completion_tokens", None)
    if any(type(count) is not int or count < 0 for count in (given, taken)):
        return None
    return Usage(given, taken)


def _completed(work: Coroutine[Any, Any, T]) -> T:
    """Runs asynchronous work to its end, in a notebook in a thread of its own."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


def _key_of(settings: EndpointSettings) -> str:
    key = os.environ.get(settings.key_variable, "").strip()
    if not key and settings.endpoint is None:
        raise EndpointError(
            f"{settings.key_variable} must hold the key of the endpoint, in the environment; or "
            "endpoint must be the address of one that needs none."
        )
    return key or "no-key"


def _openai() -> ModuleType:
    try:
        import openai
    except ImportError:
        raise ImportError("asking a model needs openai: pip install 'metajax[llm]'.") from None
    return openai
