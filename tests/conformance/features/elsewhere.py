"""Rows whose tests stand elsewhere: compilers, files, models, worlds of processes."""

from conformance.features.feature import backed_by

COMPILE = "Compilation and export"
backed_by(
    COMPILE,
    "`torch.compile(fullgraph=True)`: one graph for every length",
    "tests/conformance/test_compile.py::test_one_graph_for_every_length",
)
backed_by(
    COMPILE,
    "compiled forward and backward: eager's numbers",
    "tests/conformance/test_compile.py::test_forward_and_backward",
)
backed_by(
    COMPILE,
    "compiled with a carried state and resets",
    "tests/conformance/test_compile.py::test_state_and_reset",
)

backed_by(
    COMPILE,
    "ONNX with free batch and time (`tr.export.to_onnx`): onnxruntime gives PyTorch's numbers",
    "tests/export/test_onnx.py::test_every_layer",
)
backed_by(
    COMPILE,
    "ONNX of several layers and both directions, with and without `lengths`",
    "tests/export/test_onnx.py::test_layers_and_directions",
)
backed_by(
    COMPILE,
    "int8 weights (`tr.export.quantize`): the numbers of the rounded matrices",
    "tests/export/test_int8.py::test_the_copy_is_the_layer_of_its_matrices",
)

PROCESSES = "Many processes"
backed_by(
    PROCESSES,
    "DistributedDataParallel: one process on the joined batch; shared and checkpointed layers, too",
    "tests/distributed/test_data_parallel.py::test_two_processes_are_one_on_the_joined_batch",
    over_layers_in="check_layers",
)

HUGGING_FACE = "Hugging Face transformers, `treering.hf`"
backed_by(
    HUGGING_FACE,
    "padding at either side changes nothing and is never read",
    "tests/hf/test_padding.py::test_outputs_state_and_last",
)
backed_by(
    HUGGING_FACE,
    "pieces with a carried state give the logits of the whole",
    "tests/hf/test_causal_lm.py::TestState::test_pieces_give_the_logits_of_the_whole",
)
backed_by(
    HUGGING_FACE,
    "`generate`: cached and uncached tokens agree",
    "tests/hf/test_causal_lm.py::TestGenerate::test_cached_and_uncached_tokens_agree",
)
backed_by(
    HUGGING_FACE,
    "`save_pretrained`, `from_pretrained`, Auto classes",
    "tests/hf/test_saving.py::test_round_trip",
)
backed_by(
    HUGGING_FACE,
    "`from_pretrained(dtype=...)` in half precision",
    "tests/hf/test_saving.py::test_half_precision",
)
backed_by(
    HUGGING_FACE,
    "sequence classification in one or two directions",
    "tests/hf/test_classification.py::test_padding_at_either_side_changes_nothing",
)
