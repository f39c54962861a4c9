"""What each family of BERT's kind calls its parts, and where it departs from BERT: the table that both engines read.

Devlin et al. (2019), arXiv:1810.04805, is the trunk of all of them: post-norm layers over word and position vectors.
ELECTRA is Clark et al. (2020), arXiv:2003.10555; DistilBERT is Sanh et al. (2019), arXiv:1910.01108; RoBERTa is Liu et
al. (2019), arXiv:1907.11692; XLM-R, which is RoBERTa with another vocabulary, is Conneau et al. (2020),
arXiv:1911.02116. Names are Hugging Face's, without ``.weight`` and ``.bias``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Parts:
    """Names in full for what there is once, names within a layer for the rest."""

    base: str  # prefix of everything but the head
    layers: str  # a layer is this and its number
    dense: str  # of the head, which reads the first token of a document
    classifier: str
    head_activation: Literal["tanh", "gelu", "relu"]
    drops_twice: bool = False  # whether the head drops before its dense layer too
    after_padding: bool = False  # whether the first token's position is the one after the padding's
    query: str = "attention.self.query"
    key: str = "attention.self.key"
    value: str = "attention.self.value"
    attention_output: str = "attention.output.dense"
    attention_norm: str = "attention.output.LayerNorm"
    intermediate: str = "intermediate.dense"
    output: str = "output.dense"
    output_norm: str = "output.LayerNorm"

    @property
    def words(self) -> str:
        """Word vectors."""
        return f"{self.base}embeddings.word_embeddings"

    @property
    def positions(self) -> str:
        """Position vectors."""
        return f"{self.base}embeddings.position_embeddings"

    @property
    def segments(self) -> str:
        """Vectors of the token types, of which a text has only the first."""
        return f"{self.base}embeddings.token_type_embeddings"

    @property
    def embedding_norm(self) -> str:
        """The norm after the sum of these."""
        return f"{self.base}embeddings.LayerNorm"

    @property
    def projection(self) -> str:
        """From narrow word vectors to the hidden width, where a model has it."""
        return f"{self.base}embeddings_project"


_ROBERTA = Parts(
    base="roberta.",
    layers="roberta.encoder.layer",
    dense="classifier.dense",
    classifier="classifier.out_proj",
    head_activation="tanh",
    drops_twice=True,
    after_padding=True,
)

PARTS: Mapping[str, Parts] = {
    "bert": Parts(
        base="bert.",
        layers="bert.encoder.layer",
        dense="bert.pooler.dense",
        classifier="classifier",
        head_activation="tanh",
    ),
    "electra": Parts(
        base="electra.",
        layers="electra.encoder.layer",
        dense="classifier.dense",
        classifier="classifier.out_proj",
        head_activation="gelu",
        drops_twice=True,
    ),
    "distilbert": Parts(
        base="distilbert.",
        layers="distilbert.transformer.layer",
        dense="pre_classifier",
        classifier="classifier",
        head_activation="relu",
        query="attention.q_lin",
        key="attention.k_lin",
        value="attention.v_lin",
        attention_output="attention.out_lin",
        attention_norm="sa_layer_norm",
        intermediate="ffn.lin1",
        output="ffn.lin2",
        output_norm="output_layer_norm",
    ),
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
}
