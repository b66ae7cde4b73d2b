"""Layers and models for elsewhere: ONNX files with free batch and time, int8 weights."""

from treering.export.int8 import Int8Embedding as Int8Embedding
from treering.export.int8 import Int8Matrix as Int8Matrix
from treering.export.int8 import quantize as quantize
from treering.export.measure import Measured as Measured
from treering.export.measure import measure as measure
from treering.export.onnx import OnnxFile as OnnxFile
from treering.export.onnx import packages as packages
from treering.export.onnx import to_onnx as to_onnx
