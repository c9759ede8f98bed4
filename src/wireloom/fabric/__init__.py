"""The fabric: how controllers and agents talk. NATS underneath; intent, observation, questions, streams above."""
