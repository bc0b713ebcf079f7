"""``python -m backchain_tui`` is the command ``backchain``."""

from __future__ import annotations

import sys

from backchain_tui import collector


def main() -> None:
    """Run the program; Ctrl-C ends it in one line while it is being loaded, too."""
    collector.hold()
    try:
        from backchain_tui.cli import main as run

        run()
    except KeyboardInterrupt:
        if sys.stderr is not None:
            sys.stderr.write("backchain: cancelled\n")
        sys.exit(7)


if __name__ == "__main__":
    main()
