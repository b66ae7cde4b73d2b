"""The one place that says what to install; imported before anything of transformers."""

# Beam search of earlier releases reorders past_key_values alone, and would go on silently with
# the states of other beams.
OLDEST = (5, 16)
INSTALL = "pip install 'treering[hf]'"

try:
    import transformers
except ModuleNotFoundError as error:
    if error.name != "transformers":
        raise
    raise ImportError(
        f"treering.hf needs transformers, which is not installed: {INSTALL}"
    ) from error

found = transformers.__version__
if tuple(int(part) for part in found.split(".")[:2]) < OLDEST:
    raise ImportError(
        f"treering.hf needs transformers {OLDEST[0]}.{OLDEST[1]} or newer, found {found}: {INSTALL}"
    )
