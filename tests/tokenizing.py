"""Tokenizers made for tests."""

from pathlib import Path

from builder.data import texts


def write_tokenizer(path: Path, tokens: int = 300, special: bool = True) -> Path:
    """A WordPiece tokenizer of so many tokens at most, learnt of this package's texts, as tokenizers saves it."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.pre_tokenizers import BertPreTokenizer
    from tokenizers.processors import TemplateProcessing
    from tokenizers.trainers import WordPieceTrainer

    made = Tokenizer(WordPiece(unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = BertNormalizer(), BertPreTokenizer()
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    trainer = WordPieceTrainer(vocab_size=tokens, special_tokens=names, limit_alphabet=100, show_progress=False)
    made.train_from_iterator([one.text for one in texts.own()[:43]], trainer)
    if special:
        made.post_processor = TemplateProcessing("[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    made.save(str(path))
    return path
