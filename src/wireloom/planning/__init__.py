"""Pure planning: what to do, never doing it. No I/O, no clock, no ids made here."""
