"""The plugin of ``go_plugin/``, built with Debian's Go and go-plugin."""

from __future__ import annotations

from support.go_program import PLUGIN

COOKIE = ("OCISHIM_TEST_PLUGIN", "d1f06e1c9a6b")
VERSIONS = (2, 3)
SERVICE = "ocishim.test.Plugin"

built = PLUGIN.built
is_there = PLUGIN.is_there
