"""``python -m pipeline`` is the command ``pipe``; torchrun starts it so."""

from pipeline.cli import main

if __name__ == "__main__":
    main()
