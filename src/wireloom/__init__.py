"""Wireloom: virtual network labs in which containers and virtual machines are equals."""

__version__ = "0.1.0"
