"""What can go wrong with a handler's process, apart from its handler."""


class ProcessDied(Exception):
    """The process of the handler ended, or had to be killed, before the handler was done."""


class ProcessNotStarted(Exception):
    """There is no process that could call the handler."""


class HandlerRaised(Exception):
    """Stands for an exception that stayed in its process; the attempt's error tells all about it."""


class Garbled(Exception):
    """What came from a child process is no message of ours."""
