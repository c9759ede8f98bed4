"""``python -m wireloom.cli``: how the supervisor starts programs with its own interpreter."""

from wireloom.cli.main import run

if __name__ == "__main__":
    run()
