"""What the options before the verb say, with the configuration they lead to, read when it is first asked for.

Late, because ``ocishim run --help`` must work with a broken configuration, and start-up time counts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from shim.config import Config
    from shim.containers.containers import Containers

__all__ = ["Settings", "pass_settings"]


@dataclass
class Settings:
    """The global options. One object per run of the program, filled by the group before the verb runs."""

    state_root: str | None = None
    config_path: str | None = None
    debug: bool = False
    host: str | None = None
    """The daemon whose containers are meant; None: those of this host."""
    tls_ca: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None

    @cached_property
    def config(self) -> Config:
        """The configuration.

        Raises:
            NotFound: the file that was named does not exist.
            InvalidArgument: it is not valid.
        """
        from shim.config import load  # noqa: PLC0415 - 30 ms that --help and --version do not need

        config = load(self.config_path)
        if self.state_root is not None:
            config = replace(config, state_root=self.state_root)
        return replace(config, debug=True) if self.debug else config

    @property
    def containers(self) -> Containers:
        """The containers below the state directory."""
        from shim.containers.containers import Containers  # noqa: PLC0415 - see config

        return Containers(self.config.state_root)


pass_settings = click.make_pass_decorator(Settings)
