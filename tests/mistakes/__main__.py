"""``python -m tests.mistakes`` writes ``docs/mistakes.md`` from the cases."""

from tests.mistakes.running import DOCUMENT, all_mistakes, table

if __name__ == "__main__":
    DOCUMENT.write_text(table(all_mistakes()), encoding="utf-8")
