"""What data planes on a real host share: devices, queues, observation. They differ in how they join devices."""
