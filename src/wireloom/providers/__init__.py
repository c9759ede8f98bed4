"""Providers: leaves that know how to make one runtime of one technology, and nothing else."""
