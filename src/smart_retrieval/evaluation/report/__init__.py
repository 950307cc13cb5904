"""Result files side by side: read, kept apart where they cannot be compared, and written as tables and plots."""
