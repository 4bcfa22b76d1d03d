"""Trainings as processes: started, watched, ended, and what they took."""
