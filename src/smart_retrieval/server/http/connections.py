"""Connections that end where nothing is asked: uvicorn itself waits for a request's head without an end."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

#: Seconds in which a connection has to ask something; it is closed after at most twice as many.
HEAD_S = 20.0


class Connection(H11Protocol):
    """One of a client. By h11, which refuses heads of more than 64 kB and whatever can be read in two ways."""

    _asked: object = None
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to count."""
        super().connection_made(transport)
        self._timer = self.loop.call_later(HEAD_S, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop counting."""
        super().connection_lost(exc)
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        idle = self.cycle is None or self.cycle.response_complete
        if idle and self.cycle is self._asked:
            self.transport.close()
            return
        self._asked = self.cycle
        self._timer = self.loop.call_later(HEAD_S, self._look)
