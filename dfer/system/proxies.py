"""Proxies in the environment: servers on this machine are asked without one."""

from __future__ import annotations

from collections.abc import Mapping

LOOPBACK = ("127.0.0.1", "localhost", "::1")
_VARIABLES = ("http_proxy", "https_proxy", "all_proxy")
_EXCEPTIONS = ("no_proxy", "NO_PROXY")


def proxies(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that name a proxy, in either case, and their values."""
    return {name: value for name, value in environment.items() if name.lower() in _VARIABLES and value}


def without_loopback(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that keep clients from asking a proxy for servers on this machine; none where no proxy is named.

    A proxy elsewhere cannot reach them, and one that never answers makes every question a time-out. To be set before a
    client of Prefect or MLflow is made. Other hosts stay as they are listed.
    """
    if not proxies(environment):  # where none is, NO_PROXY would turn off the proxies of macOS's settings
        return {}
    listed = next(filter(None, (environment.get(name, "").strip() for name in _EXCEPTIONS)), "")
    if listed != "*":  # which stands for all hosts only where it stands alone
        hosts = [host.strip() for host in listed.split(",") if host.strip()]
        listed = ",".join(dict.fromkeys([*hosts, *LOOPBACK]))
    return dict.fromkeys(_EXCEPTIONS, listed)
