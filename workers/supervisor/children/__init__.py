"""The processes as the supervisor sees them: what each is to run, in which state it is, what it says and writes."""
