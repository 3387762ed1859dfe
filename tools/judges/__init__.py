"""The training of the judges of toons and of the gate."""
