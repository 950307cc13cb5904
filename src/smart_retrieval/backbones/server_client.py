"""Token states over HTTP: from vLLM's pooling API, or from llama.cpp's server without pooling."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias
from urllib.parse import urlsplit

import numpy as np

from ..errors import ModelServerError, NonFiniteError
from ..extras import require
from ..types import Array

Protocol: TypeAlias = Literal["vllm", "llama.cpp"]

#: Where the server's key is read from, if it wants one.
KEY_VARIABLE = "SMART_SERVER_KEY"
# Of /v1/models.
_OWNERS: dict[str, Protocol] = {"vllm": "vllm", "llamacpp": "llama.cpp"}
_TIMEOUT = (5.0, 300.0)  # seconds to connect, and between two bytes of an answer
_MOST_ITEMS = 32  # in one request
_MOST_TOKENS = 8_192
_STARTED = {
    "vllm": "vllm serve MODEL --runner pooling --pooler-config.task token_embed",
    "llama.cpp": "llama-server -m MODEL.gguf --embedding --pooling none --ubatch-size 8192",
}


class ServerClient:
    """One model of a server at a URL that the user gave; what is answered is checked before it is used.

    Requests are repeated with growing pauses while the server is not reached or busy. Redirects are not followed.
    """

    def __init__(self, url: str, wanted: str, *, timeout: tuple[float, float] = _TIMEOUT, retries: int = 4) -> None:
        requests = require("requests", "remote")
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
            raise ModelServerError(
                f"model server {parts.hostname or url!r}: expected http://HOST:PORT or https://HOST, without a user, "
                f"password or query; a key is read from {KEY_VARIABLE}"
            )
        self.url, self._timeout = url.rstrip("/"), timeout
        self._errors = requests.exceptions
        self._session = requests.Session()
        key = os.environ.get(KEY_VARIABLE)
        # Set even without a key: else a .netrc of the user's would be sent along.
        self._session.auth = _bearer(key)
        retry = requests.adapters.Retry(
            total=retries, connect=min(2, retries), read=min(1, retries), redirect=0, backoff_factor=0.5,
            status_forcelist=(429, 502, 503, 504), allowed_methods=None, raise_on_status=False,
        )  # fmt: skip
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, requests.adapters.HTTPAdapter(max_retries=retry))
        self.protocol, self.model, self.about = self._chosen(wanted)

    def renew(self) -> None:
        """Connect anew, as a forked process must."""
        self._session.close()

    def tokenize(self, text: str) -> list[int] | None:
        """The server's ids of a text without special tokens; None where it does not tell."""
        if self.protocol == "vllm":
            body = {"model": self.model, "prompt": text, "add_special_tokens": False}
        else:
            body = {"content": text, "add_special": False}
        answer = self._ask("POST", "/tokenize", body, missing=True)
        tokens = answer.get("tokens") if isinstance(answer, dict) else None
        return tokens if isinstance(tokens, list) and all(isinstance(token, int) for token in tokens) else None

    def states(self, ids: Sequence[Sequence[int]], width: int) -> list[Array]:
        """The last state of every token of some inputs given by their ids, ``[T_i, width]`` float32 each."""
        found: list[Array] = []
        batch: list[Sequence[int]] = []
        for one in ids:
            if batch and (len(batch) == _MOST_ITEMS or sum(map(len, batch)) + len(one) > _MOST_TOKENS):
                found += self._batch(batch, width)
                batch = []
            batch.append(one)
        return found + (self._batch(batch, width) if batch else [])

    # -- inside ------------------------------------------------------------------------------------------------

    def _batch(self, ids: list[Sequence[int]], width: int) -> list[Array]:
        inputs = [list(one) for one in ids]
        if self.protocol == "vllm":
            body = {
                "model": self.model, "task": "token_embed", "input": inputs, "encoding_format": "base64",
                "embed_dtype": "float32", "endianness": "little", "use_activation": False,
            }  # fmt: skip
            answer = self._ask("POST", "/pooling", body)
            rows, field = answer.get("data") if isinstance(answer, dict) else None, "data"
        else:
            # -1: as they are; states are normalised behind the pooling, not before.
            answer = self._ask("POST", "/embeddings", {"input": inputs, "embd_normalize": -1})
            rows, field = answer, "embedding"
        if not isinstance(rows, list) or len(rows) != len(ids):
            raise self._wrong(f"found {_shape(rows)}, expected token states of {len(ids)} inputs")
        by_index: dict[int, Any] = {}
        for place, row in enumerate(rows):
            if not isinstance(row, dict) or field not in row:
                raise self._wrong(f"found {_shape(row)}, expected an object with {field!r}")
            by_index[row.get("index", place)] = row[field]
        if set(by_index) != set(range(len(ids))):
            raise self._wrong(f"found inputs {list(by_index)}, expected each of {len(ids)} once")
        return [self._matrix(by_index[place], len(one), width) for place, one in enumerate(ids)]

    def _matrix(self, value: Any, tokens: int, width: int) -> Array:
        try:
            if isinstance(value, str):
                flat = np.frombuffer(base64.b64decode(value, validate=True), "<f4")
                matrix: Array = flat.reshape(-1, width) if len(flat) % width == 0 else flat[None]
            else:
                matrix = np.asarray(value, np.float32)  # NaN is spelled null by llama.cpp
        except (ValueError, TypeError) as error:
            raise self._wrong(f"found token states that are no numbers ({error})") from error
        matrix = matrix[None] if matrix.ndim == 1 else matrix
        if matrix.ndim != 2 or matrix.shape[1] != width:
            raise self._wrong(
                f"found states of {matrix.shape[-1]} dimensions, expected the {width} of the checkpoint named: it "
                "serves another model"
            )
        if len(matrix) == 1 != tokens:
            raise self._wrong(
                f"found one vector for {tokens} tokens, expected one for each: the server pools; start it with "
                f"{_STARTED[self.protocol]}"
            )
        if len(matrix) != tokens:
            raise self._wrong(
                f"found {len(matrix)} token states, expected {tokens}, one for each token that was sent: it cut the "
                "input off or added tokens; raise its context and batch size, or lower max_length"
            )
        if not np.isfinite(matrix).all():
            raise NonFiniteError(f"model server {self.url}: found NaN or infinity in the states of {tokens} tokens")
        return matrix

    def _chosen(self, wanted: str) -> tuple[Protocol, str, dict[str, Any]]:
        """The server's protocol, its name for the model, and what it tells of it."""
        answer = self._ask("GET", "/v1/models")
        listed = answer.get("data") if isinstance(answer, dict) else None
        models = [entry for entry in listed or [] if isinstance(entry, dict) and isinstance(entry.get("id"), str)]
        if not models:
            raise self._wrong("found no list of models, expected that of vLLM or llama.cpp")
        names = {wanted, wanted.replace("\\", "/").rstrip("/").rpartition("/")[2]}
        # A single model is the one, whatever it goes by.
        own = models if len(models) == 1 else [entry for entry in models if entry["id"] in names]
        if not own:
            raise self._wrong(f"found models {[entry['id'] for entry in models]}, expected {wanted!r} among them")
        protocol = _OWNERS.get(str(own[0].get("owned_by", "")).lower().replace(".", ""))
        if protocol is None:
            raise self._wrong(
                f"found models owned by {own[0].get('owned_by')!r}, expected vLLM ({_STARTED['vllm']}) or llama.cpp "
                f"({_STARTED['llama.cpp']}): other servers give pooled vectors only"
            )
        return protocol, own[0]["id"], own[0]

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None, *, missing: bool = False) -> Any:
        """The JSON of an answer; None where the path may be missing and is."""
        try:
            answer = self._session.request(
                method, self.url + path, json=body, timeout=self._timeout, allow_redirects=False
            )
        except self._errors.RequestException as error:
            if "Read timed out" in str(error):
                waited = f"{self._timeout[1]:g} seconds"
                raise self._wrong(f"no answer to {path} within {waited}; is it overloaded?") from error
            raise self._wrong(
                f"cannot be reached ({type(error).__name__}); start it with {_STARTED['vllm']}, or "
                f"{_STARTED['llama.cpp']}, and check address and port"
            ) from error
        if missing and answer.status_code in (404, 405, 501):
            return None
        if answer.status_code != 200:
            text = " ".join(answer.text.split())[:300]
            hint = f"; set {KEY_VARIABLE} to its key" if answer.status_code in (401, 403) else ""
            raise self._wrong(f"answered {answer.status_code} to {path}: {text}{hint}")
        try:
            return answer.json()
        except ValueError as error:
            raise self._wrong(f"answered {path} with something other than JSON") from error

    def _wrong(self, message: str) -> ModelServerError:
        return ModelServerError(f"model server {self.url}: {message}")


def _bearer(key: str | None) -> Any:
    def authorise(request: Any) -> Any:
        if key:
            request.headers["Authorization"] = f"Bearer {key}"
        return request

    return authorise


def _shape(value: Any) -> str:
    return f"{len(value)} entries" if isinstance(value, list) else type(value).__name__
