"""Refusals of a server of OpenAI's chat protocol: its message, the parameter that it refuses, the remedy, the wait."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from gridloom.runtime.models.language.spec import EndpointModel

OPTIONAL = ("max_tokens", "temperature", "seed", "stream_options", "stream")
"""Parameters without which a server can answer, in the order in which they are looked for in its message."""
RENAMED = {"max_tokens": "max_completion_tokens"}
"""Newer name of a parameter, tried before the parameter is left out."""
OUT_OF_RANGE = re.compile(
    r"between|range|maximum|minimum|<=|>=|too (?:large|high|small|low|long)|at (?:most|least)|(?:less|greater) than|"
    r"non-negative|exceeds?|context length",
    re.I,
)
"""Words of a message about the value of a parameter, which is then not left out: the spec has to change."""
CONTEXT = re.compile(
    r"context|prompt is too long|too many (?:input )?tokens|maximum.{0,20}tokens|input.{0,20}too long", re.I
)
MODEL = re.compile(
    r"model.{0,200}(?:not found|does not exist|not exist|unknown|invalid|not supported)|no such model", re.I | re.S
)
QUOTA = re.compile(r"insufficient_quota|billing|exceeded your current quota|payment", re.I)


def message_of(body: bytes) -> str:
    """Return the message of an error's body: the field that servers put it in, else the whole body, in one line."""
    text = body.decode("utf-8", errors="replace")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    message = _message(found) or text
    return " ".join("".join(c if c.isprintable() else " " for c in message).split())


def _message(found: Any) -> str:
    """Return the message in the shapes of OpenAI, vLLM, Mistral (FastAPI) and others; empty where there is none."""
    if isinstance(found, str):
        return found
    if isinstance(found, list):
        return "; ".join(filter(None, map(_message, found[:8])))
    if not isinstance(found, dict):
        return ""
    if isinstance(found.get("msg"), str):
        place = ".".join(map(str, found["loc"])) if isinstance(found.get("loc"), list) else ""
        return f"{place}: {found['msg']}" if place else str(found["msg"])
    for name in ("error", "message", "detail"):
        if message := _message(found.get(name)):
            return message
    return ""


def refused_parameter(status: int, body: bytes, sent: Mapping[str, Any]) -> str | None:
    """Return the optional parameter that the server does not take; None where it refuses something else.

    Args:
        sent: parameters of the request.
    """
    if status not in (400, 422):
        return None
    message = message_of(body)
    if OUT_OF_RANGE.search(message):
        return None
    try:
        error = json.loads(body)["error"]
        named = error.get("param")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        named = None
    if named in sent and named in OPTIONAL:
        return str(named)
    mentions = [name for name in OPTIONAL if name in sent and re.search(rf"(?<![\w]){name}(?![\w])", message)]
    places = {name: message.index(name) for name in mentions}
    # "Unsupported parameter: 'max_tokens'. Use ...": the first named is the refused one
    return min(mentions, key=lambda name: places[name], default=None) if _is_refusal(message, mentions) else None


def _is_refusal(message: str, mentions: list[str]) -> bool:
    """Return whether a mention is of a parameter: `stream` and `seed` are also common words."""
    common = {"stream", "seed", "temperature"}
    words = (
        r"support|unrecogni[sz]ed|unknown|unexpected|not permitted|not allowed|extra|invalid|may only|must be|cannot"
    )
    return any(name not in common for name in mentions) or bool(re.search(words, message, re.I))


def remedy_for(status: int, message: str, spec: EndpointModel) -> str:
    """Return what to do about a refusal, by its status and message."""
    check_key = f"check the key in ${spec.api_key_env}" if spec.api_key_env else "set api_key_env"
    name = f"the model's name '{spec.model}'"
    if status in (401, 403):
        return check_key
    if QUOTA.search(message) or status == 402:
        return "the account has no quota left: add credit, or use another key or server"
    if MODEL.search(message):
        return f"check {name}"
    if status == 404:
        return f"check the url, which must end where the protocol begins, and {name}"
    if CONTEXT.search(message) or status == 413:
        return "shorten the prompt (max_prompt_characters of the model) or lower solver.reason.max_new_tokens"
    if status in (400, 422):
        return (
            f"check {name}; if it is right, the server refuses the request: read its message, check extra_body, try a "
            "shorter prompt (max_prompt_characters) or fewer tokens"
        )
    return "read the server's log"


def retry_after_s(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Return the seconds that a server asks to wait, by `Retry-After` (a number or an HTTP date); None without it."""
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after")
    seconds = _number(value)
    if seconds is not None or value is None:
        return seconds
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, TypeError, OverflowError):
        return None
    date = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max(0.0, (date - (now or datetime.now(UTC))).total_seconds())


def _number(value: str | None) -> float | None:
    try:
        number = float(value) if value is not None else math.nan
    except ValueError:
        return None
    return None if math.isnan(number) else max(0.0, number)
