"""What caches may do with our responses. RFC 9111; CKAN's own stamping is switched off.

CKAN marks whatever leaves it `public` with `ckan.cache_expires` (set_cache_control_headers_for_response), also what one
user alone may have, unless the request's environment has `__no_cache__`; then it adds `private`.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import ckan.plugins.toolkit as tk
from flask import Response

ACCEL_CACHE_HEADER = "Datastore-Dump-Cache-Control"
"""For nginx to say with what it has found: it keeps a Cache-Control of ours on its own 404, too."""


def for_this_user_only(response: Any, identity_headers: Collection[str], cache_control: str) -> Any:
    """`private`, and for whoever asks with the same headers. Returns the response."""
    tk.request.environ["__no_cache__"] = True
    response.headers["Cache-Control"] = cache_control
    response.vary.update(identity_headers)
    return response


class ForEverybody(Response):  # type: ignore[misc]
    """A response that shared caches may keep. Its headers are set last, after CKAN has written its own: a max-age, the
    cookie of a session, and `Vary: Cookie`, because it has looked who is asking."""

    public_cache_control = ""
    """None at all if it is empty: then nginx is told in `ACCEL_CACHE_HEADER`."""

    def get_wsgi_headers(self, environ: Any) -> Any:
        headers = super().get_wsgi_headers(environ)
        for name in ("Set-Cookie", "Cache-Control"):
            headers.pop(name, None)
        # CKAN 2.10 has sessions in a middleware outside of Flask (Beaker), which sets the cookie of any that was looked at.
        session = environ.get("beaker.session")
        if session is not None:
            session.__dict__["_sess"] = None
        headers["Vary"] = "Origin"  # which CKAN's CORS headers depend on (set_cors_headers_for_response)
        if self.public_cache_control:
            headers["Cache-Control"] = self.public_cache_control
        return headers
