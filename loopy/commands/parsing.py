"""Words of a command as arguments of a function: the one way in which verbs read their options."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from inspect import signature
from itertools import pairwise
from typing import Any

import docstring_parser
from jsonargparse import ArgumentError, ArgumentParser

from loopy.commands.recipes import with_recipe
from loopy.errors import ConfigurationError


def parsed(
    function: Callable[..., object],
    words: Sequence[str],
    *,
    verb: str,
    config: str | None = None,
    flat: Mapping[str, type] | None = None,
) -> dict[str, Any]:
    """Reads the arguments of a function, whose docstring is the help.

    Parameters that are False by default are flags without a value.

    Args:
        function: What a verb runs.
        words: What stands behind the verb.
        verb: The words before the options.
        config: Help of ``--config``, a YAML file with any of the options; None: no such option.
        flat: Parameters whose fields are options of the verb -> their class.

    Returns:
        Keyword arguments of the function.

    Raises:
        ConfigurationError: Words that make no sense.
    """
    about, flat = docstring_parser.parse(function.__doc__ or ""), flat or {}
    parser = ArgumentParser(
        prog=f"loopy {verb}", description=about.short_description, exit_on_error=False
    )
    if config is not None:
        parser.add_argument("--config", action="config", help=config)
    given = signature(function).parameters
    flags = [each for each in about.params if given[each.arg_name].default is False]
    for flag in flags:
        parser.add_argument(f"--{flag.arg_name}", action="store_true", help=flag.description)
    skipped: set[str | int] = {*flat, *(flag.arg_name for flag in flags)}
    parser.add_function_arguments(function, as_positional=True, skip=skipped)
    for kind in flat.values():
        parser.add_class_arguments(kind)
    options = read_words(parser, words)
    for name, kind in flat.items():
        options[name] = kind(**{field.name: options.pop(field.name) for field in fields(kind)})
    return options


def read_words(parser: ArgumentParser, words: Sequence[str]) -> dict[str, Any]:
    """Reads options; recipes may be given by their names.

    Args:
        parser: One that does not exit on errors.
        words: What stands behind the verb.

    Returns:
        Options and what they are, without ``--config``.

    Raises:
        ConfigurationError: Words that make no sense.
    """
    try:
        given = [with_recipe(word, before) for before, word in pairwise(["", *words])]
        options = vars(parser.instantiate(parser.parse_args(given)))
    except ArgumentError as error:
        reason = " ".join(str(error).split())
        raise ConfigurationError(f"{reason}; see {parser.prog} --help") from error
    return {name: value for name, value in options.items() if name != "config"}


def chosen(functions: Mapping[str, Any], words: Sequence[str], *, verb: str) -> str:
    """The first word, which says what of a verb is run.

    Raises:
        ConfigurationError: It is none of the names of ``functions``.
        SystemExit: It asks for help, which has been printed.
    """
    name = words[0] if words else ""
    if name in ("-h", "--help"):
        about = {each: docstring_parser.parse(f.__doc__ or "") for each, f in functions.items()}
        print(f"usage: loopy {verb} WHAT ... (`loopy {verb} WHAT --help` lists its options)\n")
        print("\n".join(f"  {each}\n      {doc.short_description}" for each, doc in about.items()))
        raise SystemExit(0)
    if name not in functions:
        raise ConfigurationError(
            f"loopy {verb} has no {name!r:.80}; give {', '.join(functions)}, or see "
            f"loopy {verb} --help"
        )
    return name
