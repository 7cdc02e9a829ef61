"""`pylantir`: the commands that show and check the data. They start no process."""
