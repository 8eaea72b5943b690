"""Serve the page with streamlit, to this machine alone unless another address is asked for."""

from __future__ import annotations

import os
from pathlib import Path

from clear.core.errors import ConfigError

PAGE = Path(__file__).with_name('page.py')
_MOST_MB = 32  # of an image that somebody brings


def options(host: str, port: int) -> dict[str, str]:
    """Streamlit's settings: nothing is served but the page, nothing is told to anybody, other sites cannot post."""
    return {
        'server.address': host, 'server.port': str(port), 'server.headless': 'true',
        'server.enableStaticServing': 'false', 'server.enableXsrfProtection': 'true', 'server.enableCORS': 'true',
        'server.fileWatcherType': 'none', 'server.runOnSave': 'false',
        'server.maxUploadSize': str(_MOST_MB), 'browser.gatherUsageStats': 'false',
        'client.toolbarMode': 'viewer', 'client.showErrorDetails': 'none', 'global.developmentMode': 'false'}


def serve(session: Path, host: str, port: int) -> None:
    """Serve until the program is stopped.

    Args:
        session: a file that `Session.write` wrote.

    Raises:
        ConfigError: if streamlit is not installed.
    """
    try:
        from streamlit.web import cli
    except ImportError as error:
        raise ConfigError("The page needs streamlit: pip install 'clear-framework[app]'.") from error
    os.environ['STREAMLIT_BROWSER_GATHER_USAGE_STATS'] = 'false'  # read before any flag
    flags = [f'--{name}={value}' for name, value in options(host, port).items()]
    cli.main(['run', str(PAGE), *flags, '--', str(session)], standalone_mode=False)
