"""The command line: Typer and Rich on top of :mod:`wireloom.client`.

Start-up time is a feature, so modules here import the standard library and Typer only; Rich, pydantic and HTTP are
imported inside the functions that need them.
"""
