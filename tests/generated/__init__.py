"""Calls of estimators made from their declarations and from kinds of data, each by its number."""
