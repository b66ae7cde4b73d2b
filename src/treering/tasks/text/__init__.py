"""Tasks of texts: classification, own files and data sets; streams for language models."""

from treering.tasks.text.dataset import TextTask as TextTask
from treering.tasks.text.fine_foods import load_fine_foods as load_fine_foods
from treering.tasks.text.imdb import load_imdb as load_imdb
from treering.tasks.text.load import load_file as load_file
from treering.tasks.text.logical_inference import load_logical_inference as load_logical_inference
from treering.tasks.text.r8 import load_r8 as load_r8
from treering.tasks.text.sst import load_sst as load_sst
from treering.tasks.text.stream_vocabulary import StreamVocabulary as StreamVocabulary
from treering.tasks.text.streams import TextStreamTask as TextStreamTask
from treering.tasks.text.streams import load_text as load_text
from treering.tasks.text.streams import load_tinyshakespeare as load_tinyshakespeare
from treering.tasks.text.streams import load_wikitext2 as load_wikitext2
from treering.tasks.text.vocabulary import Vocabulary as Vocabulary
