"""Process many files: which ones, several at once, with a journal from which an interrupted run resumes."""
