"""Which records of one patient are the same scheduled procedure step: candidates, pairs worth comparing, clusters."""
