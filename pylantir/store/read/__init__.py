"""Reading the worklist and its history; nothing here writes."""
