"""HTTP calls that go out: where they may go, how long they may take, and what comes back."""
