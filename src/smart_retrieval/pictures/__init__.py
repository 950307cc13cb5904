"""Images, PDF pages as pictures, and video frames."""
