"""Dagster's webserver, asked over GraphQL: how a command gives runs to the workers."""

import json
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any

from scizor_resources.errors import ServerError

TIMEOUT_SECONDS = 60.0
_LAUNCH = """
mutation Launch($params: ExecutionParams!) {
  launchPipelineExecution(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on RunConfigValidationInvalid { errors { message } }
    ... on Error { message }
  }
}
"""


class DagsterApi:
    """The webserver of a `scizor up`.

    Args:
        url: its address, as `up` has written it.
    """

    def __init__(self, url: str) -> None:
        # A server that listens on all addresses is asked on this machine's own.
        asked = url.replace("//0.0.0.0", "//127.0.0.1").replace("//[::]", "//[::1]")
        self._url = f"{asked.rstrip('/')}/graphql"

    def launch(
        self,
        job_name: str,
        assets: Sequence[str],
        run_config: Mapping[str, Any],
        tags: Mapping[str, str],
    ) -> str:
        """Put a run of some assets of a job into the queue; returns its id.

        Args:
            job_name: name of the job.
            assets: keys, `asx/bars_5m`.
            run_config: run config.
            tags: tags, those for partitions included.

        Raises:
            ServerError: the webserver does not answer, or refuses.
        """
        params = {
            "selector": {
                "repositoryLocationName": "scizor",
                "repositoryName": "__repository__",
                "pipelineName": job_name,
                "assetSelection": [{"path": asset.split("/")} for asset in assets],
            },
            "runConfigData": run_config,
            "mode": "default",
            "executionMetadata": {
                "tags": [{"key": key, "value": value} for key, value in tags.items()]
            },
        }
        answer = self._ask(_LAUNCH, {"params": params})["launchPipelineExecution"]
        if answer["__typename"] != "LaunchRunSuccess":
            said = answer.get("message") or answer.get("errors") or answer["__typename"]
            raise ServerError(f"Dagster refused a run of {', '.join(assets)}: {said}")
        return str(answer["run"]["runId"])

    def _ask(self, query: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        request = urllib.request.Request(  # noqa: S310  # the address that `up` has written
            self._url,
            data=json.dumps({"query": query, "variables": variables}).encode(),
            headers={"content-type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310  # as above
                found: dict[str, Any] = json.load(answer)
        except (urllib.error.URLError, OSError, ValueError) as error:
            raise ServerError(
                f"The Dagster UI at {self._url} does not answer as it should: {error}. Is "
                "`scizor up` still starting? See its log."
            ) from error
        if found.get("errors"):
            raise ServerError(f"Dagster refused: {found['errors'][0].get('message')}")
        data: dict[str, Any] = found["data"]
        return data
