"""Planning a job: its graph in blocks, cut into a pipeline of segments over ordered peers."""
