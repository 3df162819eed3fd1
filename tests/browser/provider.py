"""A provider of OpenID Connect on this machine, which believes whoever types a name."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey

__all__ = ["Provider", "provider"]

FORM = """\
<!doctype html><title>Login</title><h1>Login</h1>
<form action="/enter">{kept}<label>E-mail <input name="email"></label>
<label><input type="checkbox" name="verified" checked> confirmed</label><button>Enter</button></form>
"""


class Provider:
    """Its address, the client that it knows, and the logins that are under way.

    Codes hold once and for their redirect alone; the client proves itself by its secret, and by PKCE where
    it has begun so (RFC 6749, RFC 7636, OpenID Connect Core 1.0).
    """

    def __init__(self, port: int) -> None:
        self.address = f"http://127.0.0.1:{port}"
        self.client, self.secret = "vaewatch", secrets.token_urlsafe(16)
        self.key = RSAKey.generate_key(2048, {"kid": "one", "use": "sig", "alg": "RS256"})
        self.codes: dict[str, dict[str, str]] = {}

    def discovery(self) -> dict[str, Any]:
        """What clients are told of it."""
        return {
            "issuer": self.address,
            "authorization_endpoint": f"{self.address}/authorize",
            "token_endpoint": f"{self.address}/token",
            "jwks_uri": f"{self.address}/keys",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        }

    def entered(self, asked: dict[str, str]) -> str:
        """Where a browser goes whose user has typed a name."""
        if asked["client_id"] != self.client:
            raise PermissionError("another client")
        code = secrets.token_urlsafe(16)
        self.codes[code] = asked
        return f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}"

    def token(self, asked: dict[str, str], login: tuple[str, str]) -> dict[str, Any]:
        """Tokens for a code."""
        began = self.codes.pop(asked["code"])
        if login != (self.client, self.secret) or began["redirect_uri"] != asked["redirect_uri"]:
            raise PermissionError("another client, or another redirect")
        if "code_challenge" in began:
            digest = hashlib.sha256(asked["code_verifier"].encode()).digest()
            if base64.urlsafe_b64encode(digest).decode().rstrip("=") != began["code_challenge"]:
                raise PermissionError("another verifier")
        now = int(time.time())
        claims = {
            "iss": self.address,
            "aud": self.client,
            "sub": began["email"],
            "iat": now,
            "exp": now + 600,
            "email": began["email"],
            "email_verified": "verified" in began,
            **({"nonce": began["nonce"]} if "nonce" in began else {}),
        }
        signed = jwt.encode({"alg": "RS256", "kid": "one"}, claims, self.key)
        return {"access_token": secrets.token_urlsafe(16), "token_type": "Bearer", "id_token": signed}


@contextmanager
def provider(port: int) -> Iterator[Provider]:
    """Run a provider during the block."""
    ours = Provider(port)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path, asked = urlsplit(self.path).path, _flat(urlsplit(self.path).query)
            if path == "/.well-known/openid-configuration":
                self._answer(json.dumps(ours.discovery()))
            elif path == "/keys":
                self._answer(json.dumps({"keys": [ours.key.as_dict(private=False)]}))
            elif path == "/authorize":
                kept = "".join(f'<input type="hidden" name="{n}" value="{v}">' for n, v in asked.items())
                self._answer(FORM.format(kept=kept), "text/html")
            elif path == "/enter":
                self.send_response(302)
                self.send_header("Location", ours.entered(asked))
                self.end_headers()
            else:
                self.send_error(404)

        def do_POST(self) -> None:
            asked = _flat(self.rfile.read(int(self.headers["Content-Length"])).decode())
            try:
                self._answer(json.dumps(ours.token(asked, _login(self.headers["Authorization"], asked))))
            except (KeyError, PermissionError) as error:
                self.send_error(400, str(error))

        def _answer(self, text: str, kind: str = "application/json") -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *arguments: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield ours
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _flat(query: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(query).items()}


def _login(header: str | None, asked: dict[str, str]) -> tuple[str, str]:
    if header is None:
        return asked.get("client_id", ""), asked.get("client_secret", "")
    name, _, word = base64.b64decode(header.removeprefix("Basic ")).decode().partition(":")
    return name, word
