"""The figures of the paper's tables: functions of tensors, each with a thin torchmetrics class."""
