"""Who may ask: tokens, the page's cookie, and what keeps other web pages in the same browser out."""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request, cookie_parser
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from anomaly_core import ConfigError, read_untrusted
from anomaly_serve.answers import refused
from anomaly_serve.bodies import body_of
from anomaly_serve.faults import Forbidden, Unauthorised

COOKIE = "anomaly_token"
LOGIN = "/page/login"
DAY = 24 * 3600.0
LASTS = 7 * DAY  # seconds that a login on the page is good for
SHORTEST = 16  # characters of a token
OPEN = ("/healthz", "/readyz", LOGIN)  # asked by those who have no token
OPEN_FILES = "/page/static/"  # styles of the login form
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_SAFE = frozenset(("GET", "HEAD", "OPTIONS"))


class Tokens:
    """The tokens that open the service; without one, everybody who reaches it is ``local``."""

    def __init__(self, tokens: Iterable[tuple[str, str]] = ()) -> None:
        self._tokens = {name: token.encode() for name, token in tokens}

    @classmethod
    def read(cls, path: Path) -> Tokens:
        """From a file of lines ``NAME TOKEN``; empty lines and those that begin with # are skipped.

        Raises:
            ConfigError: it cannot be read, or a line is something else; the message does not show the token.
        """
        try:
            lines = read_untrusted(path, 1 << 20).decode("utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"cannot read the tokens in {str(path)!r}: {error}. Give a text file of lines NAME TOKEN."
            ) from error
        tokens: dict[str, str] = {}
        for number, line in enumerate(lines, 1):
            if not line.strip() or line.startswith("#"):
                continue
            name, _, token = line.strip().partition(" ")
            token, where = token.strip(), f"line {number} of {str(path)!r}"
            if not re.fullmatch(r"[\w.@-]{1,64}", name) or not re.fullmatch(r"[!-~]+", token):
                raise ConfigError(f"{where} is not NAME TOKEN. Write a name without spaces, a space, and the token.")
            if len(token) < SHORTEST:
                step = "python -c 'import secrets; print(secrets.token_urlsafe(24))'"
                raise ConfigError(f"{where}: the token is shorter than {SHORTEST} characters. Make one: {step}")
            if name in tokens:
                raise ConfigError(f"{where}: {name!r} has a token already. Give each person or program one of its own.")
            tokens[name] = token
        if not tokens:
            raise ConfigError(f"{str(path)!r} has no tokens. Write a line NAME TOKEN, or leave --token-file out.")
        return cls(tokens.items())

    def __bool__(self) -> bool:
        return bool(self._tokens)

    def name_of(self, token: str) -> str | None:
        """Whose token it is; takes the same time whatever it is."""
        given, found = _digest(token.encode("utf-8", "surrogateescape")), None
        for name, own in self._tokens.items():
            if hmac.compare_digest(_digest(own), given):
                found = name
        return found

    def cookie_for(self, name: str, until: float) -> str:
        """What the page's cookie holds: it ends with the token, and cannot be made without it."""
        facts = f"{name}:{int(until)}"
        return f"{facts}:{self._sign(name, facts)}"

    def name_in(self, cookie: str) -> str | None:
        """Whose cookie it is, if it is a valid one."""
        name, _, rest = cookie.partition(":")
        until, _, signature = rest.partition(":")
        if name not in self._tokens or not re.fullmatch("[0-9]{1,12}", until):
            return None
        signed = hmac.compare_digest(self._sign(name, f"{name}:{until}").encode(), signature.encode("utf-8", "replace"))
        return name if signed and int(until) > time.time() else None

    def _sign(self, name: str, facts: str) -> str:
        return hmac.new(self._tokens[name], f"page {facts}".encode(), hashlib.sha256).hexdigest()


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()


class Access:
    """ASGI: lets a request pass, with ``request.state.who``, or refuses it.

    Args:
        tokens: that open the service.
        hosts: names that the ``Host`` header may have, without a port; None: any. With the names of this machine alone, a web
            page of somebody else cannot reach the service under a name of its own (DNS rebinding).
    """

    def __init__(self, app: ASGIApp, tokens: Tokens, hosts: Iterable[str] | None = None) -> None:
        self._app = app
        self._tokens = tokens
        self._hosts = None if hosts is None else {host.lower() for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As an ASGI application."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            scope.setdefault("state", {})["who"] = self._who(scope, Headers(scope=scope))
        except Unauthorised as error:
            await _unknown(scope, error)(scope, receive, send)
        except Forbidden as error:
            await refused(error)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _who(self, scope: Scope, headers: Headers) -> str:
        host = headers.get("host", "").lower()
        if self._hosts is not None and re.sub(r":[0-9]*$", "", host) not in self._hosts:
            raise Forbidden(
                f"this service does not go by the name {host[:80]!r}. Use the address that it printed, or start it with "
                "--allow-host NAME for each name that it has."
            )
        method: str = scope["method"]
        origin = headers.get("origin")
        if method not in _SAFE and not _same_origin(origin, headers, host):
            raise Forbidden("a web page of another site may change nothing here. Use the service's own page, or no browser.")
        if not self._tokens:
            return "local"
        if (given := headers.get("authorization")) is not None:
            scheme, _, token = given.partition(" ")
            name = self._tokens.name_of(token.strip()) if scheme.lower() == "bearer" else None
            if name is None:
                raise Unauthorised("the token is not known. Send `Authorization: Bearer TOKEN`, of the service's --token-file.")
            return name
        name = self._tokens.name_in(cookie_parser(headers.get("cookie", "")).get(COOKIE, ""))
        if name is not None:
            if method not in _SAFE and origin is None:
                raise Forbidden("a browser that is logged in must say where a change comes from, and this one does not.")
            return name
        if scope["path"] in OPEN or scope["path"].startswith(OPEN_FILES):
            return ""
        raise Unauthorised("a token is needed. Send `Authorization: Bearer TOKEN`, of the service's --token-file.")


def _same_origin(origin: str | None, headers: Headers, host: str) -> bool:
    """Whether a change comes from the service's own page, or from no browser."""
    if origin is not None:
        return origin.lower() != "null" and urlsplit(origin.lower()).netloc == host
    return headers.get("sec-fetch-site", "none") in ("none", "same-origin")


def _unknown(scope: Scope, error: Unauthorised) -> Response:
    """The login form for a person, an error for a program."""
    headers = Headers(scope=scope)
    if scope["method"] == "GET" and "text/html" in headers.get("accept", "") and "authorization" not in headers:
        return RedirectResponse(LOGIN, 303)
    return refused(error)


def login_routes(tokens: Tokens) -> list[Route]:
    """What the page's form for the token, and its way out, send."""

    async def log_in(request: Request) -> Response:
        form = parse_qs((await body_of(request, 1 << 12)).decode("utf-8", "replace"))
        name = tokens.name_of(form.get("token", [""])[0].strip())
        if name is None:
            return RedirectResponse(f"{LOGIN}?wrong=1", 303)
        answer = RedirectResponse("/", 303)
        value = tokens.cookie_for(name, time.time() + LASTS)
        options: dict[str, Any] = {"httponly": True, "samesite": "strict", "secure": _is_secure(request)}
        answer.set_cookie(COOKIE, value, int(LASTS), **options)
        return answer

    async def log_out(request: Request) -> Response:
        answer = RedirectResponse(LOGIN, 303)
        answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return answer

    return [Route(LOGIN, log_in, methods=["POST"]), Route("/page/logout", log_out, methods=["POST"])]


def _is_secure(request: Request) -> bool:
    """Whether the browser speaks TLS, with us or with the proxy before us."""
    return "https" in (request.url.scheme, request.headers.get("x-forwarded-proto", "").partition(",")[0].strip())
