"""Losses and class weights."""
