"""Keeps what runs equal to what is wanted: decides, launches, watches, stops, and answers the REST API."""
