"""What each verb of the command line runs, one file a verb."""
