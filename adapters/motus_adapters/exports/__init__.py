"""The action path in other formats, and what runs it without torch."""
