"""The figures of the paper's tables: functions of tensors, one figure a file."""
