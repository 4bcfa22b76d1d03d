"""``make cases``: hard media files with known answers, read, measured, compared and copied."""
