"""What must outlive the process that knows it: records on disk."""
