"""Spec text -> RunGraph, by plain functions: load, compose, validate, bind, check, lower, fingerprint."""

from gridloom.compiler.compile import Compiled, compile_spec, compile_text
from gridloom.compiler.library import Recipe, list_recipes, recipe_text
from gridloom.compiler.render import render, to_json

__all__ = ["Compiled", "Recipe", "compile_spec", "compile_text", "list_recipes", "recipe_text", "render", "to_json"]
