"""Conformance suites: one for each contract, run against every implementation of it."""
