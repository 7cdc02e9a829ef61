"""The commands that write a file for people to start from: `init` and `new-plugin`."""
