"""Result files side by side: read, kept apart where they cannot be compared, and written as tables and plots.

``report.build_report`` is the way in: `files` finds and `kinds` reads results, `measured` says what may be compared
with what, `gains` tests differences, `tables` and `mmeb` lay them out, `formats` writes them, `plots` draws.
"""
