"""The agent: one per host; compares intent with what it observes, and acts through the runner."""
