"""ListOps: the value of nested expressions of MIN, MAX, median and sum modulo 10.

Nangia, Bowman, "ListOps: A Diagnostic Dataset for Latent Tree Learning" (NAACL SRW 2018).
"""

from treering.tasks.listops.load import ListOpsTask as ListOpsTask
from treering.tasks.listops.load import load_listops as load_listops
from treering.tasks.listops.vocabulary import ListOpsVocabulary as ListOpsVocabulary
