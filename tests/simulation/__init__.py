"""The engine under a seeded scheduler: random interleavings, crashes, pauses and clock jumps that replay."""
