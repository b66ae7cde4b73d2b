"""The one place that says what to install; imported before anything of transformers."""

OLDEST = 5
INSTALL = "pip install 'treering[hf]'"

try:
    import transformers
except ModuleNotFoundError as error:
    if error.name != "transformers":
        raise
    raise ImportError(
        f"treering.hf needs transformers, which is not installed: {INSTALL}"
    ) from error

if int(transformers.__version__.split(".")[0]) < OLDEST:
    raise ImportError(
        f"treering.hf needs transformers {OLDEST} or newer, found {transformers.__version__}:"
        f" {INSTALL}"
    )
