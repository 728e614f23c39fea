"""The connections that ccxt uses: a time limit for whole answers, no redirects, no retries.

Imported only where calls are made: `requests` takes a moment.
"""

import io
import time
from collections.abc import Callable
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPResponse
from urllib3.exceptions import HTTPError

from scizor_resources.providers.ccxt_venues.exchange import Answer

_CHUNK_BYTES = 65_536


def open_session(timeout_seconds: float, heard: Callable[[Answer], None]) -> requests.Session:
    """Return a session for one exchange of ccxt.

    Args:
        timeout_seconds: longest wait for the whole of one answer's body.
        heard: is told of every answer whose body has arrived.
    """
    session = requests.Session()
    # A redirect would be a second call that has not passed the gate.
    session.max_redirects = 0
    adapter = _WholeAnswers(timeout_seconds, heard)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


class _WholeAnswers(HTTPAdapter):
    """Reads each body to its end within a time; requests itself times single reads only."""

    def __init__(self, timeout_seconds: float, heard: Callable[[Answer], None]) -> None:
        super().__init__(max_retries=0)
        self._timeout_seconds = timeout_seconds
        self._heard = heard

    def build_response(self, req: requests.PreparedRequest, resp: Any) -> requests.Response:
        """Return the response with its body in memory.

        Raises:
            requests.RequestException: the body was cut or took too long.
        """
        body = self._read(resp)
        whole = HTTPResponse(
            body=io.BytesIO(body),
            headers=resp.headers,
            status=resp.status,
            reason=resp.reason,
            preload_content=False,
            decode_content=False,
        )
        response = super().build_response(req, whole)
        text = response.content.decode("utf-8", errors="replace")
        self._heard(Answer(response.status_code, response.headers, text))
        return response

    def _read(self, resp: HTTPResponse) -> bytes:
        deadline = time.monotonic() + self._timeout_seconds
        body = b""
        try:
            while chunk := resp.read1(_CHUNK_BYTES, decode_content=False):
                body += chunk
                if time.monotonic() > deadline:
                    raise requests.ReadTimeout("the body took too long")
        except HTTPError as error:
            raise requests.ConnectionError(f"the body is cut: {error}") from None
        finally:
            # A connection whose answer was not read to its end is of no more use.
            if resp.length_remaining:
                resp.close()
            resp.release_conn()
        return body
