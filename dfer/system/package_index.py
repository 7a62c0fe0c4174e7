"""Files of packages from the index that pip is configured for. Nothing of a package is built or run."""

from __future__ import annotations

import ast
import logging
import os
import re
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dfer.system.downloads import NotFetchedError

Source = Any
"""As unearth has it: a dict of `url`, and of `type`, which is 'index' or 'find_links'."""

logger = logging.getLogger(__name__)

_TIMEOUT = 15.0  # pip's own, seconds


class PackageIndexError(NotFetchedError):
    """No index has the file, or none can be reached."""


def fetch(
    name: str, version: str, file: str, folder: Path, on_bytes: Callable[[int, int | None], None] = lambda *_: None
) -> Path:
    """Fetch one file of a release; it is not checked.

    pip's configuration (its files and the environment's PIP_*) says from where: index-url, extra-index-url, no-index,
    find-links, trusted-host, cert, client-cert, proxy, timeout. Passwords are those of the URL, ~/.netrc or keyring.

    Args:
        name, version, file: for example 'scrfd', '0.3.0' and 'scrfd-0.3.0.tar.gz'.
        folder: for the file, unless an index is a folder of this machine that has it.
        on_bytes: called with the bytes that have come and how many there are in all, None if that is not known.

    Raises PackageIndexError with what each index answered.
    """
    import httpx2
    from unearth import PackageFinder
    from unearth.auth import MultiDomainBasicAuth
    from unearth.errors import UnpackError
    from unearth.fetchers.sync import PyPIClient

    options = pip_options()
    trusted, proxy = options.get("trusted-host", "").split(), options.get("proxy")
    client: Any = PyPIClient(
        trusted_hosts=trusted,
        verify=_certificates(options),
        proxy=proxy,
        # by itself the client asks trusted hosts without the proxy
        mounts={f"all://{host}": httpx2.HTTPTransport(verify=False, proxy=proxy) for host in trusted if proxy},
        timeout=float(options.get("timeout") or options.get("default-timeout") or _TIMEOUT),
        follow_redirects=True,
    )
    finder = PackageFinder(client, trusted_hosts=trusted, ignore_compatibility=True)
    sources = _sources(finder.sources, options)
    client.auth = MultiDomainBasicAuth(prompting=False, index_urls=[source["url"] for source in sources])
    answers: list[str] = []
    with client, _warnings_of_unearth(answers):
        # one after another, so that one that cannot be reached does not hide the others
        for source in sources:
            finder.sources = [source]
            try:
                for package in finder.find_matches(f"{name}=={version}"):
                    if package.link.filename == file:
                        return finder.download(
                            package.link, folder, download_reporter=lambda _, done, total: on_bytes(done, total)
                        )
            except (httpx2.HTTPError, httpx2.InvalidURL, UnpackError, OSError, ValueError) as error:
                answers.append(f"{_without_password(source['url'])}: {error or type(error).__name__}")
    raise PackageIndexError("; ".join(answers) or f"no index that pip is configured for has {file}")


def pip_options() -> dict[str, str]:
    """pip's options for downloads: the environment before the files' section `download`, and that before `global`."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "config", "list"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        message = result.stderr.strip().splitlines()[-1:] or ["no message"]
        logger.warning("pip's configuration cannot be read, so its defaults count: %s", message[0])
    sections: dict[str, dict[str, str]] = {"global": {}, "download": {}, ":env:": {}}
    for line in result.stdout.splitlines():
        name, _, value = line.partition("=")
        section, _, option = name.rpartition(".")
        if section in sections:
            sections[section][option] = str(ast.literal_eval(value))
    return {option: value for values in sections.values() for option, value in values.items() if value}


def _sources(default: list[Source], options: Mapping[str, str]) -> list[Source]:
    """Where to look: folders of this machine first, since they answer at once."""
    sources: list[Source] = []
    if options.get("no-index", "").lower() not in ("1", "true", "yes", "on", "y", "t"):
        indexes = [options["index-url"]] if "index-url" in options else [source["url"] for source in default]
        sources += [{"url": url, "type": "index"} for url in [*indexes, *options.get("extra-index-url", "").split()]]
    sources += [{"url": url, "type": "find_links"} for url in options.get("find-links", "").split()]
    return sorted(sources, key=lambda source: source["url"].startswith(("http://", "https://")))


def _certificates(options: Mapping[str, str]) -> ssl.SSLContext | bool:
    """Which servers are trusted; True for those that the system trusts."""
    bundle = options.get("cert") or os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
    if not bundle and "client-cert" not in options:
        return True
    is_folder = bool(bundle) and Path(str(bundle)).is_dir()
    context = ssl.create_default_context(capath=bundle) if is_folder else ssl.create_default_context(cafile=bundle)
    if "client-cert" in options:
        context.load_cert_chain(options["client-cert"])
    return context


@contextmanager
def _warnings_of_unearth(answers: list[str]) -> Iterator[None]:
    """Collect what it would log: one index that lacks a package is nothing to warn of."""

    def collect(record: logging.LogRecord) -> bool:
        answers.append(record.getMessage())
        return False

    collector = logging.getLogger("unearth.collector")
    collector.addFilter(collect)
    try:
        yield
    finally:
        collector.removeFilter(collect)


def _without_password(url: str) -> str:
    return re.sub("//[^/@]*@", "//", url)
