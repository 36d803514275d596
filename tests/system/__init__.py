"""The service as its users see it: real processes, real HTTP, real signals."""
