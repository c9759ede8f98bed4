"""Data planes: what joins ports. Providers and data planes know nothing of each other."""
