"""People in the loop: who is shown which query, and what they said.

Takes the queries of a preferences.PreferenceStore; puts answers into it, where the trainer hears of them.
"""
