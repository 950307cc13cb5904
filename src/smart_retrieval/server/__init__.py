"""Serving indexes over HTTP: who may ask, a bounded number of requests at a time, and the routes.

``access`` and ``service`` know nothing of HTTP; whatever is built on them (routes, a page, tools of an agent) has the
same tenants, limits and errors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import lazy_names

if TYPE_CHECKING:
    from .access import Caller as Caller
    from .access import Tenant as Tenant
    from .app import create_app as create_app
    from .requests import IndexInfo as IndexInfo
    from .requests import NewDocument as NewDocument
    from .requests import Query as Query
    from .service import Service as Service
    from .settings import ServerSettings as ServerSettings

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        "access": ("Caller", "Tenant"),
        "app": ("create_app",),
        "requests": ("IndexInfo", "NewDocument", "Query"),
        "service": ("Service",),
        "settings": ("ServerSettings",),
    },
)
