"""DOTA's score and what explains it: matching, AP, analysis, reports, plots, pictures."""
