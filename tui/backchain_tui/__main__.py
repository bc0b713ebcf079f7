"""``python -m backchain_tui`` is the command ``backchain``."""

from backchain_tui.cli import main

if __name__ == "__main__":
    main()
