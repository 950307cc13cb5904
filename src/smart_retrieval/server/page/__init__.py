"""The web page of a server: search, results and explanations in plain HTML, quicker with a little JavaScript."""
