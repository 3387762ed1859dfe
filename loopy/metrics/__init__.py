"""The figures of the paper's tables: functions of tensors, and a thin `torchmetrics.Metric` each."""
