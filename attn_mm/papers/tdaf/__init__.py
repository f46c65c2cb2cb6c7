"""Published figures of the TDAF paper."""
