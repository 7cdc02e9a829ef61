"""Communication between the processes of one machine: frames, local sockets, and commands to the supervisor."""
