"""What passes between the processes of one machine: frames, local sockets, and how a command asks the supervisor."""
