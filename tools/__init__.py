"""What developers run; not in the wheel."""
