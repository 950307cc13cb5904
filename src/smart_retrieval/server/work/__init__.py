"""What the service does in its threads: indexes, documents and pictures, and the threads themselves."""
