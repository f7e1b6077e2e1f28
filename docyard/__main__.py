"""``python -m docyard`` is the command ``docyard``."""

from docyard.cli import main

if __name__ == "__main__":
    main()
