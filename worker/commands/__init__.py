"""Commands: programs that the operator declares, each one a type of job."""
